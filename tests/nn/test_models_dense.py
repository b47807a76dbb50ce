"""Segmentation: SegNet's way back over indices, FCN's alignment, and what both learn."""

import numpy as np
import pytest

import minigrad
from minigrad_nn import functional as F
from minigrad_nn import init, models, optim
from minigrad_nn.layers import BatchNorm2d, Conv2d, ConvTranspose2d, MaxPool2d
from minigrad_nn.models.fcn import FCN, bilinear_
from minigrad_nn.models.segnet import SegNet
from tests.nn.whole import check_model

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_random_numbers():
    with minigrad.random.preserved():
        minigrad.random.manual_seed(0)
        yield


def build(make, *args, **settings):
    """A large network with weights of 0: quick to make."""
    with init.without_drawing():
        return make(*args, **settings)


def learned(model):
    return sum(p.size for p in model.parameters() if p.requires_grad)


def drawn(*shape):
    return minigrad.tensor(rng.standard_normal(shape).astype("f"))


# --- SegNet --------------------------------------------------------------------------------------


def test_segnet_has_the_layers_and_the_parameters_of_its_figure():
    model = build(models.segnet, 12)
    convolutions = [m for m in model.modules() if isinstance(m, Conv2d)]
    assert len(convolutions) == 26
    widths = [c.out_channels for c in convolutions]
    assert widths == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6 + [
        512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64, 12,
    ]  # fmt: skip
    assert sum(isinstance(m, BatchNorm2d) for m in model.modules()) == 25
    # The encoder is VGG-16's, and 29.45 million is what the paper counts.
    vgg = build(models.vgg16_bn).features
    assert learned(model.encoder) == learned(vgg) == 14_723_136
    assert learned(model) == 29_449_932 and "29,449,932" in SegNet.__doc__


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (53, 61), (9, 100)])
def test_segnet_gives_every_pixel_logits(size):
    model = models.segnet_small(5, in_channels=1)
    assert model(minigrad.zeros((2, 1, *size))).shape == (2, 5, *size)


def test_an_unpool_puts_the_maxima_back_where_they_stood():
    model = SegNet(2, 1, widths=(1,), depths=(1,))
    seen = {}

    def remember(layer, args, output):
        seen["before"], (seen["pooled"], seen["indices"]) = args[0].numpy(), output

    def watch(layer, args, output):
        seen["unpooled"] = args[0].numpy()

    model.pool.register_forward_hook(remember)
    model.decoder[0].register_forward_hook(watch)
    model(drawn(1, 1, 7, 6))
    before, after = seen["before"][0, 0], seen["unpooled"][0, 0]
    assert after.shape == (7, 6) and (after[6] == 0).all()  # the row that the pool left out
    for i in range(0, 6, 2):
        for j in range(0, 6, 2):
            window, back = before[i : i + 2, j : j + 2], after[i : i + 2, j : j + 2]
            assert back.max() == window.max() and (back != 0).sum() == (window.max() > 0)
            assert back.reshape(-1)[window.argmax()] == window.max()


def test_the_gradients_of_a_small_segnet():
    model = SegNet(2, 1, widths=(2, 3), depths=(1, 2)).astype(np.float64)
    check_model(model, lambda m, x: m(x), rng.standard_normal((2, 1, 6, 5)), kinks="skip")


def test_segnet_begins_with_a_trained_vgg():
    model = SegNet(3, 3, widths=(64, 128), depths=(2, 2))
    vgg = build(models.vgg16_bn)
    cut = vgg.features
    with pytest.raises(ValueError, match="SegNet.load_vgg: .* 26 layers are given and 8 wanted"):
        model.load_vgg(vgg)
    vgg.features = cut[:14]
    for parameter in vgg.features.parameters():
        init.normal_(parameter)
    model.load_vgg(vgg)
    x = drawn(1, 3, 8, 8)
    model.eval()
    vgg.eval()
    encoded, _ = model.pool(model.encoder[1](model.pool(model.encoder[0](x))[0]))
    np.testing.assert_array_equal(encoded.numpy(), vgg.features(x).numpy())
    with pytest.raises(ValueError, match=r"SegNet.load_vgg: .* layer 0 is .* is wanted"):
        SegNet(3, 1, widths=(64, 128), depths=(2, 2)).load_vgg(vgg)


def test_what_segnet_cannot_take_is_said():
    for settings in ({"widths": ()}, {"depths": (1,)}, {"widths": (4, 0), "depths": (1, 1)}):
        with pytest.raises(ValueError, match="SegNet: needs at least one class, and a width"):
            SegNet(2, **settings)
    model = models.segnet_small(3)
    with pytest.raises(ValueError, match=r"SegNet: pictures must be \(N, 3, H, W\), got shape"):
        model(minigrad.zeros((1, 1, 32, 32)))
    with pytest.raises(ValueError, match="SegNet: pictures must be at least 8 pixels high"):
        model(minigrad.zeros((1, 3, 7, 32)))


# --- FCN -----------------------------------------------------------------------------------------

TINY = {"widths": (1, 1, 1, 1, 1), "depths": (1, 1, 1, 1, 1), "fc_width": 1, "dropout": 0.0}


@pytest.mark.parametrize(
    "make, count, strides",
    [
        (models.fcn32s, 134_346_581, [32]),
        (models.fcn16s, 134_346_581 + 17_829, [2, 16]),
        (models.fcn8s, 134_346_581 + 17_829 + 12_453, [2, 2, 8]),
    ],
)
def test_fcn_has_the_parameters_that_its_docstring_counts(make, count, strides):
    model = build(make, 21)
    assert learned(model) == count
    ups = [m for m in model.modules() if isinstance(m, ConvTranspose2d)]
    assert [m.stride for m in ups] == strides
    # Those in between learn, the last one stays an interpolation.
    assert [m.weight.requires_grad for m in ups] == [True] * (len(ups) - 1) + [False]
    for number in ("134,346,581", "17,829", "12,453"):
        assert number in FCN.__doc__


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("groups", [1, 3])
def test_a_bilinear_start_interpolates_exactly(factor, groups):
    layer = ConvTranspose2d(3, 3, 2 * factor, stride=factor, groups=groups, bias=False)
    bilinear_(layer.weight)
    x = drawn(2, 3, 5, 6)
    wanted = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False).numpy()
    border = factor // 2
    found = layer(x).numpy()[:, :, border:, border:][:, :, : 5 * factor, : 6 * factor]
    assert found.shape == wanted.shape
    inside = (slice(None), slice(None), slice(factor, -factor), slice(factor, -factor))
    np.testing.assert_allclose(found[inside], wanted[inside], atol=1e-5)
    for shape in ((2, 2, 3, 3), (2, 2, 4, 2), (3, 2, 4, 4)):
        with pytest.raises(ValueError, match="bilinear_: weight must be"):
            bilinear_(minigrad.zeros(shape))


def averaging(model):
    """Weights with which scores are averages of the square that a cell sees."""
    model.astype(np.float64).eval()
    for layer in model.modules():
        if isinstance(layer, Conv2d):
            kernel = np.zeros(layer.weight.shape)
            if layer.kernel_size == (3, 3) and layer is not model.fc6:
                kernel[:, :, 1, 1] = 1.0
            else:
                kernel[:] = 1.0 / np.prod(kernel.shape[1:])
            layer.weight.assign(kernel)
    return model


@pytest.mark.parametrize("stride", [32, 16, 8, 4, 2])
@pytest.mark.parametrize("fc_kernel, padding", [(7, 100), (7, 81), (1, 1), (2, 5), (3, 20)])
@pytest.mark.parametrize("more", [(32, 64), (23, 41)])
def test_every_score_lies_over_the_pixels_that_it_is_of(stride, fc_kernel, padding, more):
    # On a slope, the largest of a window is its mean and half the way across, and averaging and
    # interpolation change nothing: what comes out is the slope itself, and so many halves.
    model = averaging(build(FCN, 1, 1, stride, fc_kernel=fc_kernel, padding=padding, **TINY))
    edge = 16 * fc_kernel + 32  # where the padding is seen: as far as fc6 and the tents reach
    last = edge + 32  # at the other end windows may also be cut off
    size = tuple(edge + n + last for n in more)
    rows, columns = np.mgrid[: size[0], : size[1]]
    slope = 1000.0 + rows + 3.0 * columns
    y = model(minigrad.tensor(slope[None, None])).numpy()[0, 0]
    assert y.shape == size
    strides = [s for s in (32, 16, 8, 4, 2) if s >= stride]
    wanted = sum(slope + (1 + 3) * (s - 1) / 2 for s in strides)
    inside = (slice(edge, -last), slice(edge, -last))
    np.testing.assert_allclose(y[inside], wanted[inside], rtol=1e-9)


def test_what_is_cropped_is_what_the_paper_crops():
    """FCN-8s written out with the numbers of its published description: 5, 9 and 31."""
    settings = TINY | {"widths": (2, 2, 3, 3, 2), "fc_width": 4}
    model = FCN(2, 1, 8, **settings)
    for layer in (model.score, *model.skips):
        init.normal_(layer.weight)
        init.normal_(layer.bias)
    for up in model.up:
        init.normal_(up.weight)
    x = drawn(1, 1, 45, 70)
    maps, h = [], x
    for stage in model.stages:
        h = stage(h)
        maps.append(h)
    assert maps[0].shape[2:] == ((45 + 198 + 1) // 2, (70 + 198) // 2)
    h = model.score(model.relu(model.fc7(model.relu(model.fc6(h)))))
    for i, crop, stage in ((0, 5, 3), (1, 9, 2)):
        h = model.up[i](h)
        rows, columns = h.shape[2:]
        h = h + model.skips[i](maps[stage])[:, :, crop : crop + rows, crop : crop + columns]
    wanted = model.upscore(h)[:, :, 31 : 31 + 45, 31 : 31 + 70]
    np.testing.assert_array_equal(model(x).numpy(), wanted.numpy())


@pytest.mark.parametrize("size", [(17, 17), (64, 64), (50, 71)])
@pytest.mark.parametrize("stride", [16, 8, 2])
def test_fcn_gives_every_pixel_logits(size, stride):
    model = models.fcn_small(5, in_channels=1, stride=stride)
    assert model(minigrad.zeros((2, 1, *size))).shape == (2, 5, *size)


def test_a_single_pixel_is_enough_for_the_wide_border_of_the_paper():
    model = build(FCN, 2, 1, 8, **TINY)
    assert model.smallest == 1 and model(minigrad.zeros((1, 1, 1, 1))).shape == (1, 2, 1, 1)


def test_fully_connected_layers_become_filters():
    vgg = build(models.vgg11)
    vgg.features = type(vgg.features)(Conv2d(3, 4, 3, padding=1), MaxPool2d(2))
    vgg.classifier[0].__init__(4 * 7 * 7, 6)
    vgg.classifier[3].__init__(6, 6)
    model = FCN(2, 3, 2, widths=(4,), depths=(1,), fc_width=6, dropout=0.0, padding=6)
    model.load_vgg(vgg.eval())
    # Over a picture of just the size that VGG wants, the filters say what its units say.
    x = drawn(1, 3, 14, 14)
    features = vgg.features(x)
    said = vgg.classifier[:5](vgg.flatten(features)).numpy()
    filtered = model.relu(model.fc7(model.relu(model.fc6(features)))).numpy()
    np.testing.assert_allclose(filtered[:, :, 0, 0], said, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"FCN.load_vgg: a fully connected layer of shape \(6, 19"):
        FCN(2, 3, 2, widths=(4,), depths=(1,), fc_width=6, fc_kernel=3).load_vgg(vgg)
    with pytest.raises(ValueError, match="FCN.load_vgg: the convolutional parts differ: 1 layers"):
        FCN(2, 3, 4, widths=(4, 4), depths=(1, 1), fc_width=6).load_vgg(vgg)


def test_the_gradients_of_a_small_fcn():
    settings = {"widths": (2, 2), "depths": (1, 1), "fc_width": 2, "fc_kernel": 3, "padding": 3}
    model = FCN(2, 1, 2, dropout=0.0, **settings).astype(np.float64)
    for layer in (model.score, *model.skips):
        init.normal_(layer.weight)
    check_model(model, lambda m, x: m(x), rng.standard_normal((1, 1, 6, 7)), kinks="skip")


def test_what_fcn_cannot_take_is_said():
    with pytest.raises(ValueError, match="FCN: needs at least one class, and a width and a depth"):
        FCN(2, widths=(4,), depths=(1, 1))
    with pytest.raises(ValueError, match=r"FCN: stride must be that of a pool, .* 32\], got 64"):
        build(FCN, 2, stride=64, **TINY)
    with pytest.raises(ValueError, match="FCN: filters of 7x7 at stride 32 .* at least 81, got 80"):
        build(FCN, 2, padding=80, **TINY)
    with pytest.raises(ValueError, match=r"FCN: pictures must be \(N, 3, H, W\)"):
        models.fcn_small(2)(minigrad.zeros((1, 1, 32, 32)))
    with pytest.raises(ValueError, match="FCN: pictures must be at least 17 pixels"):
        models.fcn_small(2)(minigrad.zeros((1, 3, 16, 32)))


# --- both ----------------------------------------------------------------------------------------


def squares(rng, count, side=24):
    """Pictures with a bright and a dark square in noise, and which pixels are theirs."""
    x = 0.1 * rng.standard_normal((count, 1, side, side)).astype("f")
    y = np.zeros((count, side, side), np.int64)
    for picture, classes in zip(x, y, strict=True):
        for kind, light in ((1, 1.0), (2, -1.0)):
            r, c = rng.integers(0, side - 8, 2)
            picture[0, r : r + 8, c : c + 8] = light
            classes[r : r + 8, c : c + 8] = kind
    return minigrad.tensor(x), y


@pytest.mark.full
@pytest.mark.parametrize("make", [models.segnet_small, models.fcn_small])
def test_a_small_network_learns_to_segment(make):
    model = make(3, in_channels=1)
    optimizer = optim.Adam(model.parameters(), lr=0.005)
    draw = np.random.default_rng(1)
    for _ in range(100):
        x, y = squares(draw, 6)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    x, y = squares(draw, 16)
    found = model.eval()(x).numpy().argmax(1)
    assert (found == y).mean() > 0.93 > (y == 0).mean()
    inside = y > 0
    assert (found[inside] == y[inside]).mean() > 0.8

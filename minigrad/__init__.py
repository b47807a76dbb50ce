"""A reverse-mode autograd engine, from one scalar gate to tensors and derivatives of any order."""

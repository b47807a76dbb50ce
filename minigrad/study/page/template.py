"""The skeleton and the look of a stepping's page."""

from __future__ import annotations

__all__ = ["PAGE", "STYLE"]

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p id="phase" aria-hidden="true"></p>
</header>
<nav aria-label="Steps">
<button id="first" title="Home">|&#9664; start</button>
<button id="back" title="&#8592;">&#9664; back</button>
<button id="play" title="space">&#9654; play</button>
<button id="step" title="&#8594;">step &#9654;</button>
<button id="last" title="End">end &#9654;|</button>
<input id="place" type="range" min="0" value="0" aria-label="Step">
<label>pace <select id="pace" aria-label="Seconds for each step">
<option value="4">slow</option><option value="2" selected>medium</option>
<option value="0.7">fast</option></select></label>
</nav>
<main>
<div id="view" tabindex="0" aria-label="The graph. Drag, or plus, minus and 0 to zoom.">
{picture}
</div>
<section id="focus" aria-live="polite" aria-label="The gate in focus"></section>
<section id="code" aria-label="Source"></section>
</main>
<details id="numbers"><summary>All numbers at this step</summary>
<table>
<thead><tr><th>node</th><th>made by</th><th>value</th><th>gradient so far</th><th></th></tr></thead>
<tbody></tbody>
</table>
</details>
<p id="help"><span class="value">value</span> above a wire,
<span class="gradient">gradient</span> below = <span class="gradient">gate gradient</span> &#215;
<span class="local">local gradient</span> &#8195;
<kbd>&#8594;</kbd> step <kbd>&#8592;</kbd> back <kbd>space</kbd> play
<kbd>B</kbd> backward <kbd>F</kbd> follow
<kbd>+</kbd> <kbd>&#8722;</kbd> <kbd>0</kbd> zoom <kbd>N</kbd> numbers</p>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""

STYLE = """
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body { font-family: "DejaVu Sans", Verdana, Geneva, sans-serif; color: #1c1c1c; background: #fff;
  display: flex; flex-direction: column; padding: 0.6rem 1rem; gap: 0.5rem;
  font-size: clamp(15px, 1.25vw, 22px); }
header { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem; }
h1 { font-size: 1.35em; margin: 0; }
#phase { font-size: 1.25em; margin: 0; font-weight: bold; white-space: nowrap; }
nav { display: flex; gap: 0.5rem; align-items: center; flex-wrap: wrap; }
button, select { font: inherit; padding: 0.25em 0.7em; border: 2px solid #3b4252;
  background: #eef1f7;
  border-radius: 6px; color: inherit; cursor: pointer; }
button:hover { background: #fff6d6; }
button:disabled { color: #6b6b6b; border-color: #b5b9c4; cursor: default; background: #fff; }
#play { min-width: 7em; }
:focus-visible { outline: 4px solid #1d5fc4; outline-offset: 1px; }
#place { flex: 1; min-width: 10em; accent-color: #3b4252; }
main { flex: 1 1 auto; min-height: 0; display: grid; gap: 0.6rem;
  grid-template-columns: minmax(0, 11fr) minmax(0, 9fr);
  grid-template-rows: minmax(220px, 1fr) auto; }
main.nocode { grid-template-columns: minmax(0, 1fr); }
#view { grid-column: 1 / -1; border: 1px solid #8a8a8a; overflow: hidden; touch-action: none;
  cursor: grab; min-height: 0; border-radius: 6px; }
#view svg { width: 100%; height: 100%; display: block; }
section { border: 1px solid #c4c4c4; border-radius: 6px; padding: 0.6rem 0.9rem; overflow: auto;
  height: 36vh; }
main.nocode #code { display: none; }
#focus h2 { margin: 0 0 0.3em; font-size: 1.45em; }
#focus p { margin: 0.25em 0; }
#focus .equation { font-size: 1.45em; margin: 0.15em 0; }
#focus .flows { display: flex; flex-wrap: wrap; gap: 0.4rem 1rem; margin-top: 0.4em; }
#focus .flow { flex: 1 1 15em; border-left: 6px solid #d8182c; padding: 0 0 0 0.7em; }
#focus .place { color: #555; font-size: 0.62em; font-weight: normal; margin-left: 0.6em; }
.value { color: #00572a; } .gradient { color: #d8182c; } .local { color: #1d5fc4; }
code { font-family: "DejaVu Sans Mono", Consolas, monospace; font-size: 0.95em; }
.rule { background: #eef1f7; padding: 0.05em 0.4em; border-radius: 4px; }
#focus .note { color: #444; font-size: 0.85em; }
.state { font-weight: bold; }
table.grid { border-collapse: collapse; display: inline-table; vertical-align: middle;
  margin: 0.15em 0.4em; }
table.grid td { border: 1px solid #8a8a8a; padding: 0.15em 0.5em; text-align: right;
  min-width: 2.6em; }
#code h3 { margin: -0.6rem -0.9rem 0.3em; padding: 0.5rem 0.9rem 0.2rem; font-size: 0.95em;
  position: sticky; top: -0.6rem; left: -0.9rem; background: #fff; }
#code pre { margin: 0; font-family: "DejaVu Sans Mono", Consolas, monospace; font-size: 1.02em;
  line-height: 1.5; }
#code .now { background: #ffd54a; font-weight: bold; outline: 2px solid #1c1c1c; }
#code .number { color: #6b6b6b; display: inline-block; width: 3em; text-align: right;
  padding-right: 0.8em; user-select: none; }
#code .number::before { content: "  "; } #code .now .number::before { content: "\\25B6 "; }
#numbers { max-height: 45vh; overflow: auto; flex: none; }
#numbers table { border-collapse: collapse; width: 100%; }
#numbers th, #numbers td { border: 1px solid #c4c4c4; padding: 0.2rem 0.5rem; text-align: left; }
#help { margin: 0; color: #444; font-size: 0.85em; flex: none; }
kbd { border: 1px solid #8a8a8a; border-radius: 4px; padding: 0 0.35em; background: #f5f5f5;
  font: inherit; }
#picture .hidden { visibility: hidden; }
#picture .gate.focus circle, #picture .gate.focus rect { fill: #ffd54a; stroke: #1c1c1c;
  stroke-width: 4.5; }
#picture .receiver path { stroke: #d8182c; stroke-width: 4.5; stroke-dasharray: 9 5; }
#picture path.forward { stroke: #00572a; stroke-width: 4.5; }
#picture path.backward { stroke: #d8182c; stroke-width: 4.5; stroke-dasharray: 9 5; }
#picture polygon.forward { fill: #00572a; } #picture polygon.backward { visibility: hidden; }
#picture text.fresh { font-weight: bold; }
@media (prefers-reduced-motion: no-preference) {
  #picture path.backward, #picture .receiver path { animation: flow 0.8s linear infinite; }
}
@keyframes flow { from { stroke-dashoffset: 0; } to { stroke-dashoffset: 14; } }
@media print { nav, #help { display: none; } }
"""

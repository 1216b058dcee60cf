// Draws the report from the facts in the element "facts". Names reach the page as text nodes only.
// At the end the root element's data-report is "ready"; an error puts its text there.
'use strict';
addEventListener('error', e => { document.documentElement.dataset.report = 'error: ' + e.message; });
(() => {
  const facts = JSON.parse(document.getElementById('facts').textContent);
  const roles = facts.roles, strings = facts.strings, columns = facts.columns;
  const tensors = facts.tensors.map(t => ({
    first: t[0], last: t[1], offset: t[2], bytes: t[3], role: t[4], kernel: strings[t[5]], type: strings[t[6]],
    name: strings[t[7]], why: strings[t[8]],
  }));
  const svgSpace = document.querySelector('svg').namespaceURI;
  const draw = (parent, tag, attributes, text) => {
    const node = document.createElementNS(svgSpace, tag);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return parent.appendChild(node);
  };
  const make = (parent, tag, text, className) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return parent.appendChild(node);
  };
  const bytes = n => {
    let unit = 'B';
    for (const next of ['KiB', 'MiB', 'GiB', 'TiB']) {
      if (n < 1024) break;
      n /= 1024;
      unit = next;
    }
    return (unit === 'B' ? n : n.toFixed(2)) + ' ' + unit;
  };
  const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
  const fill = role => 'var(--' + roles[role] + ')';

  // A picture's frame: the drawing area in view-box units, ticks of the vertical axis.
  const left = 70, right = 990, width = 1000;
  function frame(svg, top, bottom, most, label) {
    const y = v => bottom - (bottom - top) * v / most;
    let step = Math.pow(2, Math.floor(Math.log2(most / 4)));
    if (most / step > 7) step *= 2;
    for (let v = 0; v <= most; v += step) {
      draw(svg, 'line', {x1: left, x2: right, y1: y(v), y2: y(v), class: 'grid'});
      draw(svg, 'text', {x: left - 6, y: y(v) + 4, 'text-anchor': 'end'}, label(v));
    }
    return y;
  }
  const steps = facts.instructions;
  const x = i => left + (right - left) * i / Math.max(1, steps);
  const instructionAt = (svg, event) => {
    const box = svg.getBoundingClientRect();
    return ((event.clientX - box.left) * width / box.width - left) / (right - left) * steps;
  };
  function phases(svg, y) {
    for (const [name, first, last] of facts.sections) {
      draw(svg, 'line', {x1: x(first), x2: x(first), y1: 14, y2: y, class: 'edge'});
      if (x(last) - x(first) > 40)
        draw(svg, 'text', {x: (x(first) + x(last)) / 2, y: y + 15, 'text-anchor': 'middle'}, name);
    }
    draw(svg, 'line', {x1: x(facts.peak + 0.5), x2: x(facts.peak + 0.5), y1: 14, y2: y, class: 'peak'});
  }

  // Memory over the step: areas by role, on top of each other.
  (() => {
    if (!columns.length) return;
    const picture = document.getElementById('memory'), svg = picture.querySelector('svg'), bottom = 320;
    const detail = document.getElementById('memory-detail');
    const most = Math.max(facts.arena, 1), y = frame(svg, 14, bottom, most, bytes);
    const begins = columns.map(c => c.begin), ends = begins.slice(1).concat([steps]);
    const below = columns.map(() => 0);
    roles.forEach((role, r) => {
      if (!columns.some(c => c.bytes[r])) return;
      let up = '', down = '';
      columns.forEach((c, i) => {
        const low = below[i], high = low + c.bytes[r];
        up += `L${x(begins[i]).toFixed(2)} ${y(high).toFixed(2)}L${x(ends[i]).toFixed(2)} ${y(high).toFixed(2)}`;
        down = `L${x(ends[i]).toFixed(2)} ${y(low).toFixed(2)}L${x(begins[i]).toFixed(2)} ${y(low).toFixed(2)}` + down;
        below[i] = high;
      });
      draw(svg, 'path', {d: 'M' + (up + down).slice(1) + 'Z', fill: fill(r)});
    });
    draw(svg, 'line', {x1: left, x2: right, y1: y(facts.arena), y2: y(facts.arena), class: 'peak'});
    phases(svg, bottom);
    const cursor = draw(svg, 'line', {x1: 0, x2: 0, y1: 14, y2: bottom, class: 'cursor'});
    let at = Math.max(0, begins.findLastIndex(b => b <= facts.peak));

    function show(column) {
      at = clamp(column, 0, columns.length - 1);
      const c = columns[at], middle = x(c.at + 0.5);
      cursor.setAttribute('x1', middle);
      cursor.setAttribute('x2', middle);
      detail.replaceChildren();
      const total = c.bytes.reduce((a, b) => a + b, 0);
      make(detail, 'p', `instruction ${c.at} of ${steps}${c.at === facts.peak ? ', the peak' : ''}: ` +
        `${strings[c.kernel]} (${strings[c.phase]})${c.block >= 0 ? ' in block ' + c.block : ''}` +
        `${strings[c.node] ? ', ' + strings[c.node] : ''}; alive: ${bytes(total)}`).style.fontWeight = '600';
      const parts = make(detail, 'ul', undefined, 'legend');
      roles.forEach((role, r) => {
        if (!c.bytes[r]) return;
        const item = make(parts, 'li');
        make(item, 'i').style.background = fill(r);
        item.append(`${role} ${bytes(c.bytes[r])}`);
      });
      const alive = tensors.filter(t => t.first <= c.at && c.at < t.last).sort((a, b) => b.bytes - a.bytes);
      const table = make(detail, 'table'), head = make(table, 'tr');
      ['tensor', 'operation', 'type', 'bytes', 'is', 'why'].forEach((h, i) => make(head, 'th', h, i === 3 ? 'n' : ''));
      const temporary = alive.filter(t => !facts.persistent.includes(t.role)).slice(0, 10);
      const rows = temporary.concat(alive.filter(t => !temporary.includes(t)).slice(0, Math.max(3, 12 - temporary.length)));
      for (const t of rows) {
        const row = make(table, 'tr');
        make(row, 'td', t.name);
        make(row, 'td', t.kernel, 't');
        make(row, 'td', t.type, 't');
        make(row, 'td', bytes(t.bytes), 'n');
        make(row, 'td', roles[t.role], 't');
        make(row, 'td', t.why);
      }
      const rest = total - rows.reduce((sum, t) => sum + t.bytes, 0);
      if (rest > 0) make(detail, 'p', `and ${bytes(rest)} in others`, 'soft');
    }
    const columnAt = i => Math.max(0, begins.findLastIndex(b => b <= i));
    picture.addEventListener('pointermove', e => show(columnAt(instructionAt(svg, e))));
    picture.addEventListener('keydown', e => {
      const moves = {ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 20, PageDown: at + 20, Home: 0,
        End: columns.length - 1, p: columnAt(facts.peak)};
      if (!(e.key in moves)) return;
      e.preventDefault();
      show(moves[e.key]);
    });
    show(at);
  })();

  // The arena: every tensor a rectangle, offset by time.
  (() => {
    if (!tensors.length) return;
    const picture = document.getElementById('arena'), svg = picture.querySelector('svg'), bottom = 400;
    const detail = document.getElementById('arena-detail');
    const y = frame(svg, 14, bottom, Math.max(facts.arena, 1), bytes);
    const group = draw(svg, 'g', {});
    const boxes = tensors.map((t, i) => {
      const wide = Math.max(0.4, x(t.last) - x(t.first)), high = Math.max(0.3, y(t.offset) - y(t.offset + t.bytes));
      return draw(group, 'rect', {
        x: x(t.first).toFixed(2), width: wide.toFixed(2), y: y(t.offset + t.bytes).toFixed(2), height: high.toFixed(2),
        fill: fill(t.role), class: wide > 3 && high > 2 ? 'box' : '', 'data-index': i, // an edge must not hide a box
      });
    });
    phases(svg, bottom);
    const bySize = tensors.map((t, i) => i).sort((a, b) => tensors[b].bytes - tensors[a].bytes || a - b);
    let at = 0;
    function show(index) {
      boxes.forEach(b => b.classList.remove('chosen'));
      boxes[index].classList.add('chosen');
      group.appendChild(boxes[index]);
      const t = tensors[index];
      detail.textContent = `${t.name}: ${t.type}, ${bytes(t.bytes)} at offset ${t.offset}, instructions ${t.first} to ` +
        `${t.last - 1}; ${roles[t.role]}${t.kernel ? ', made by ' + t.kernel : ''}; ${t.why}`;
    }
    picture.addEventListener('pointermove', e => {
      const index = e.target.dataset && e.target.dataset.index;
      if (index !== undefined) show(+index);
    });
    picture.addEventListener('keydown', e => {
      const moves = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: bySize.length - 1};
      if (!(e.key in moves)) return;
      e.preventDefault();
      at = clamp(moves[e.key], 0, bySize.length - 1);
      show(bySize[at]);
    });
  })();

  // Peak against recomputation.
  (() => {
    const picture = document.getElementById('pareto');
    if (!picture || !facts.pareto.length) return;
    const svg = picture.querySelector('svg'), top = 14, bottom = 260, detail = document.getElementById('pareto-detail');
    const points = facts.pareto.map(([peak, share]) => ({peak, share}));
    const all = points.concat([{peak: facts.arena, share: facts.chosenShare}]);
    const low = Math.min(...all.map(p => p.peak)), high = Math.max(...all.map(p => p.peak));
    const most = Math.max(1e-9, ...all.map(p => p.share)) * 1.08;
    const px = v => left + 30 + (right - left - 60) * (high > low ? (v - low) / (high - low) : 0.5);
    const py = v => bottom - (bottom - top) * v / most;
    const percent = v => (100 * v).toFixed(most < 0.05 ? 2 : 1) + '%';
    for (let i = 0; i <= 4; ++i) {
      const v = most * i / 4, p = low + (high - low) * i / 4;
      draw(svg, 'line', {x1: left, x2: right, y1: py(v), y2: py(v), class: 'grid'});
      draw(svg, 'text', {x: left - 6, y: py(v) + 4, 'text-anchor': 'end'}, percent(v));
      draw(svg, 'text', {x: px(p), y: bottom + 18, 'text-anchor': 'middle'}, bytes(p));
    }
    const describe = (p, chosen) => `${chosen ? 'this plan' : 'a plan'}: peak ${bytes(p.peak)}, recomputation ` +
      `${percent(p.share)} of a modelled step`;
    // Between two points the cheaper one that fits is the left one's budget: steps.
    let path = '';
    points.forEach((p, i) => { path += i ? `H${px(p.peak)}V${py(p.share)}` : `M${px(p.peak)} ${py(p.share)}`; });
    draw(svg, 'path', {d: path, class: 'curve'});
    points.forEach(p => {
      const dot = draw(svg, 'circle', {cx: px(p.peak), cy: py(p.share), r: 4, fill: 'var(--saved)', tabindex: 0,
        'aria-label': describe(p, false)});
      for (const event of ['pointerenter', 'focus'])
        dot.addEventListener(event, () => { detail.textContent = describe(p, false); });
    });
    const chosen = {peak: facts.arena, share: facts.chosenShare};
    draw(svg, 'circle', {cx: px(chosen.peak), cy: py(chosen.share), r: 7, fill: 'none', class: 'chosen'});
    draw(svg, 'text', {x: px(chosen.peak), y: py(chosen.share) - 12, class: 'strong',
      'text-anchor': px(chosen.peak) > 850 ? 'end' : 'start'}, 'this plan');
    detail.textContent = describe(chosen, true);
  })();
  document.documentElement.dataset.tensors = tensors.length;
  document.documentElement.dataset.report = 'ready';
})();

// A card with one chart (Chart.js) whose last values also stand beside its title as text.
import {element, reconcile, setAttribute, setText} from '/dom.js';
import {count, short} from '/format.js';

const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const darkMode = matchMedia('(prefers-color-scheme: dark)');

// Colours of style.css, in turn.
const COLOURS = 7;
const colourName = (index) => `--series-${index % COLOURS + 1}`;

// With more points than this a curve is thinned for drawing; what is shown as text never is.
const DRAWN_POINTS = 1500;

export class ChartCard {
  // `name` is the card's data-chart; `format(value, onAxis)` turns a value into text;
  // `emptyText` says when points will come; without it the card is not shown until they do. `limits`
  // are y-axis limits for Chart.js.
  constructor({name, title, format, emptyText = null, limits = {}}) {
    this.title = title;
    this.emptyText = emptyText;
    this.format = format;
    this.last = element('ul', {class: 'last-values', 'aria-label': `${title}: last values`});
    this.fallback = element('p');
    this.canvas = element('canvas', {role: 'img', 'aria-label': title}, this.fallback);
    this.empty = element('p', {class: 'empty'});
    this.node = element('section', {class: 'card chart', 'data-chart': name},
      element('header', {}, element('h3', {}, title), this.last),
      element('div', {class: 'plot'}, this.canvas, this.empty));
    this.limits = limits;
    this.chart = null;
    this.recolour = () => this.applyTheme();
    darkMode.addEventListener('change', this.recolour);
  }

  // `lines`: [{label, points: [{x, y}]}], in a fixed order. `ended`: no more points will come.
  update(lines, ended) {
    const drawn = lines.filter((line) => line.points.some((point) => point.y !== null));
    this.empty.hidden = drawn.length > 0;
    this.node.hidden = this.emptyText === null && drawn.length === 0;
    setText(this.empty, ended ? 'The job ended before its first point.' : this.emptyText ?? '');
    this.node.classList.toggle('blank', ended && drawn.length === 0);
    this.showLastValues(drawn);
    setAttribute(this.canvas, 'data-points', drawn.map((line) => line.points.length).join(' '));
    if (!drawn.length && !this.chart) return;
    this.chart ??= this.makeChart();
    const datasets = this.chart.data.datasets;
    const grown = datasets.length !== drawn.length ||
      drawn.some((line, index) => !samePoints(datasets[index].source, line.points));
    if (!grown) return;
    drawn.forEach((line, index) => {
      datasets[index] ??= {};
      Object.assign(datasets[index], {
        label: line.label, data: line.points, source: line.points,
        pointRadius: line.points.length <= 40 ? 2.5 : 0,
      });
    });
    datasets.length = drawn.length;
    this.applyTheme();
  }

  showLastValues(lines) {
    const latest = lines.map((line) => ({label: line.label, point: line.points.at(-1)}));
    reconcile(this.last, latest, (item) => item.label,
      () => element('li', {}, element('i', {class: 'swatch', 'aria-hidden': 'true'}),
                    element('span', {class: 'label'}), element('data')),
      (node, item) => {
        const [, label, data] = node.children;
        setText(label, lines.length > 1 || item.label !== this.title ? item.label : '');
        setText(data, this.format(item.point.y));
        setAttribute(data, 'value', item.point.y);
        setAttribute(data, 'data-step', item.point.x);
      });
    [...this.last.children].forEach((node, index) => {
      node.firstElementChild.hidden = lines.length === 1;
      node.firstElementChild.style.background = `var(${colourName(index)})`;
    });
    const words = latest.map(({label, point}) =>
      `${label}: ${this.format(point.y)} at step ${count(point.x)}`);
    setText(this.fallback, words.join('; ') || this.empty.textContent);
    setAttribute(this.canvas, 'aria-label', `${this.title} over steps. ${words.join('; ')}`);
  }

  makeChart() {
    return new window.Chart(this.canvas, {
      type: 'line',
      data: {datasets: []},
      options: {
        animation: false, parsing: false, normalized: true, maintainAspectRatio: false,
        interaction: {mode: 'nearest', axis: 'x', intersect: false},
        elements: {line: {borderWidth: 1.75, tension: 0}, point: {hoverRadius: 4}},
        scales: {
          x: {type: 'linear', min: 0, bounds: 'data', ticks: {callback: short, maxTicksLimit: 7, maxRotation: 0},
              grid: {drawOnChartArea: false}},
          y: {grace: '6%', ticks: {callback: (value) => this.format(value, true), maxTicksLimit: 6},
              ...this.limits, grid: {drawBorder: false}},
        },
        plugins: {
          legend: {display: false},
          decimation: {enabled: true, algorithm: 'min-max', threshold: DRAWN_POINTS,
                       samples: DRAWN_POINTS},
          tooltip: {
            displayColors: true, boxPadding: 4,
            callbacks: {
              title: (items) => `step ${count(items[0].parsed.x)}`,
              label: (item) => ` ${item.dataset.label}: ${this.format(item.parsed.y)}`,
            },
          },
        },
      },
    });
  }

  applyTheme() {
    if (!this.chart) return;
    const {options, data} = this.chart;
    for (const scale of [options.scales.x, options.scales.y]) {
      scale.ticks.color = theme('--muted');
      scale.ticks.font = {size: 11, family: theme('--font')};
      scale.grid.color = theme('--line');
      scale.grid.borderColor = theme('--line');
    }
    data.datasets.forEach((dataset, index) => {
      const colour = theme(colourName(index));
      Object.assign(dataset, {borderColor: colour, backgroundColor: colour,
                              pointBackgroundColor: colour});
    });
    this.chart.update('none');
  }

  destroy() {
    darkMode.removeEventListener('change', this.recolour);
    this.chart?.destroy();
  }
}

// Curves only grow at their end, or are replaced as a whole.
function samePoints(before, now) {
  return before !== undefined && before.length === now.length &&
    before.at(-1)?.x === now.at(-1)?.x && before.at(-1)?.y === now.at(-1)?.y &&
    before[0]?.y === now[0]?.y;
}

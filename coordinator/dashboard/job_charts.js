// The curves of a job.
import {get, jobPath} from '/api.js';
import {ChartCard} from '/charts.js';
import {element} from '/dom.js';
import {decimal, milliseconds, percent, rate, short} from '/format.js';
import {hasEnded} from '/parts.js';
import {Curves} from '/series.js';

// On an axis there is room for few digits only.
const axis = (text) => (value, onAxis) => (onAxis ? short(value) : text(value));
const share = (value, onAxis) => percent(value, onAxis ? 0 : 2);

const FIRST_STEPS = 'The first point comes with the first training steps.';

// One curve each. Those without emptyText are there only in jobs that report them.
const SINGLE = [
  {metric: 'train/loss', name: 'loss', title: 'Loss', format: axis(decimal),
   emptyText: FIRST_STEPS},
  {metric: 'train/lr', name: 'lr', title: 'Learning rate', format: decimal, limits: {min: 0},
   emptyText: FIRST_STEPS},
  {metric: 'train/images_per_second', name: 'speed', title: 'Images per second',
   format: axis(rate), limits: {min: 0}, emptyText: FIRST_STEPS},
];
const OPTIONAL = [
  {metric: 'train/memory_gib', name: 'memory', title: 'Memory of the largest worker',
   format: (value, onAxis) => `${axis(decimal)(value, onAxis)} GiB`, limits: {min: 0}},
  {metric: 'head/dropped_mass', name: 'dropped', title: 'Probability left out by the head',
   format: decimal, limits: {min: 0}},
  {metric: 'triplet/active_share', name: 'active', title: 'Triplets with a loss', format: share,
   limits: {min: 0, max: 1, grace: 0}},
];

// Phases of a step in the order in which they follow one another.
const PHASES = ['data', 'forward', 'head', 'backward', 'communication', 'optimizer', 'other'];
// With more ranks than this a line each would be a tangle.
const RANKS_DRAWN = 6;

const byMetric = (specs) => new Map(specs.map(({metric, ...card}) => [metric, new ChartCard(card)]));

export class JobCharts {
  constructor() {
    this.single = byMetric(SINGLE);
    this.optional = byMetric(OPTIONAL);
    this.accuracy = new ChartCard({
      name: 'accuracy', title: 'Verification accuracy', limits: {max: 1, grace: 0}, format: share,
      emptyText: 'No validation yet: data.validation in the job file names the sets.'});
    this.time = new ChartCard({
      name: 'time', title: 'Time of a step', format: milliseconds, limits: {min: 0}});
    this.targets = new ChartCard({
      name: 'targets', title: 'Images whose identity a rank holds', format: share,
      limits: {min: 0}});
    this.cards = [...this.single.values(), this.accuracy, this.time, this.targets,
                  ...this.optional.values()];
    for (const card of this.cards) card.update([], false);
    this.node = element('div', {class: 'charts'}, ...this.cards.map((card) => card.node));
    this.curves = new Curves();
    this.attempt = null;
  }

  async refresh(job, signal) {
    // A new attempt goes back to the last checkpoint: what lies behind it is trained again.
    const afterStep = job.attempt === this.attempt
      ? this.curves.afterStep(job.progress?.step ?? -1) : -1;
    const accuracyName = (set) => `val/${set}/accuracy`;
    const names = [...this.single.keys(), ...this.optional.keys(), 'train/time/', 'shard/',
                   ...job.validation_sets.map(accuracyName)];
    const {series} = await get(jobPath(job.id, '/metrics'),
                               {names: names.join(','), after_step: afterStep}, signal);
    this.attempt = job.attempt;
    this.curves.merge(series, afterStep);
    const ended = hasEnded(job.state);
    for (const [metric, card] of [...this.single, ...this.optional]) {
      card.update([{label: card.title, points: this.curves.points(metric)}], ended);
    }
    this.accuracy.update(job.validation_sets.map(
      (set) => ({label: set, points: this.curves.points(accuracyName(set))})), ended);
    this.time.update(this.phaseLines(), ended);
    this.targets.update(this.targetLines(), ended);
  }

  phaseLines() {
    const place = (phase) => (PHASES.includes(phase) ? PHASES.indexOf(phase) : PHASES.length);
    return this.curves.between('train/time/', '_ms')
      .sort(([, one], [, other]) => place(one) - place(other))
      .map(([name, phase]) => ({label: phase, points: this.curves.points(name)}));
  }

  targetLines() {
    const ranks = this.curves.between('shard/', '/targets');
    if (ranks.length <= RANKS_DRAWN) {
      return ranks.map(([name, rank]) => ({label: `rank ${rank}`, points: this.curves.points(name)}));
    }
    const [least, most] = this.curves.envelope(ranks.map(([name]) => name));
    return [{label: `least of ${ranks.length} ranks`, points: least}, {label: 'most', points: most}];
  }

  destroy() {
    for (const card of this.cards) card.destroy();
  }
}

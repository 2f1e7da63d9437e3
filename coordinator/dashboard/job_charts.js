// The four curves of a job.
import {get, jobPath} from '/api.js';
import {ChartCard} from '/charts.js';
import {element} from '/dom.js';
import {decimal, percent, rate, short} from '/format.js';
import {hasEnded} from '/parts.js';
import {Curves} from '/series.js';

// On an axis there is room for few digits only.
const axis = (text) => (value, onAxis) => (onAxis ? short(value) : text(value));

const FIRST_STEPS = 'The first point comes with the first training steps.';

export class JobCharts {
  constructor() {
    this.loss = new ChartCard({
      name: 'loss', title: 'Loss', format: axis(decimal),
      emptyText: FIRST_STEPS});
    this.rate = new ChartCard({
      name: 'lr', title: 'Learning rate', format: decimal, limits: {min: 0},
      emptyText: FIRST_STEPS});
    this.speed = new ChartCard({
      name: 'speed', title: 'Images per second', format: axis(rate), limits: {min: 0},
      emptyText: FIRST_STEPS});
    this.accuracy = new ChartCard({
      name: 'accuracy', title: 'Verification accuracy', limits: {max: 1, grace: 0},
      format: (value, onAxis) => percent(value, onAxis ? 0 : 2),
      emptyText: 'No validation yet: data.validation in the job file names the sets.'});
    this.cards = [this.loss, this.rate, this.speed, this.accuracy];
    this.node = element('div', {class: 'charts'}, ...this.cards.map((card) => card.node));
    this.curves = new Curves();
    this.attempt = null;
  }

  async refresh(job, signal) {
    // A new attempt goes back to the last checkpoint: what lies behind it is trained again.
    const afterStep = job.attempt === this.attempt
      ? this.curves.afterStep(job.progress?.step ?? -1) : -1;
    const accuracyName = (set) => `val/${set}/accuracy`;
    const names = ['train/loss', 'train/lr', 'train/images_per_second',
                   ...job.validation_sets.map(accuracyName)];
    const {series} = await get(jobPath(job.id, '/metrics'),
                               {names: names.join(','), after_step: afterStep}, signal);
    this.attempt = job.attempt;
    this.curves.merge(series, afterStep);
    const ended = hasEnded(job.state);
    const draw = (card, name) =>
      card.update([{label: card.title, points: this.curves.points(name)}], ended);
    draw(this.loss, 'train/loss');
    draw(this.rate, 'train/lr');
    draw(this.speed, 'train/images_per_second');
    this.accuracy.update(job.validation_sets.map(
      (set) => ({label: set, points: this.curves.points(accuracyName(set))})), ended);
  }

  destroy() {
    for (const card of this.cards) card.destroy();
  }
}

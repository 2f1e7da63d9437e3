// One job: how it stands, its curves, checkpoints, shards and log.
import {get, jobPath} from '/api.js';
import {element, setText} from '/dom.js';
import {age, clockTime, count, DASH, decimal, duration, percent, rate, share} from '/format.js';
import {JobCharts} from '/job_charts.js';
import {CheckpointsCard, LogCard, ShardsCard, TransitionsCard} from '/job_cards.js';
import {hasEnded, progressBar, setProgress, setState, stateBadge} from '/parts.js';

const FIGURES = ['Step', 'Epoch', 'Loss', 'Images/s', 'Time left', 'Accuracy'];

export class JobView {
  constructor(id) {
    this.id = id;
    this.title = id;
    this.charts = new JobCharts();
    this.transitions = new TransitionsCard();
    this.checkpoints = new CheckpointsCard();
    this.shards = new ShardsCard();
    this.log = new LogCard(id);
    this.settled = null;  // an ended job of which all is shown: its curves and log stay
    this.node = element('div', {class: 'page job', hidden: 'hidden'},
      element('nav', {'aria-label': 'Breadcrumb'}, element('a', {href: '#/'}, '← All jobs')),
      this.makeHeader(), this.charts.node,
      element('div', {class: 'columns'}, this.checkpoints.node, this.shards.node),
      element('div', {class: 'columns narrow-first'}, this.transitions.node, this.log.node),
      this.makeSettings());
  }

  makeHeader() {
    this.name = element('h1');
    this.badge = stateBadge();
    this.subtitle = element('p', {class: 'summary'});
    this.reason = element('p', {class: 'reason'});
    this.bar = progressBar();
    this.figures = new Map(FIGURES.map((name) => [name, element('dd')]));
    const list = element('dl', {class: 'figures'});
    for (const [name, value] of this.figures) {
      list.append(element('div', {'data-figure': name}, element('dt', {}, name), value));
    }
    return element('header', {class: 'job-header'},
      element('div', {class: 'title-line'}, this.name, this.badge, this.subtitle),
      this.reason, this.bar, list);
  }

  makeSettings() {
    this.recipe = element('p', {class: 'recipe'});
    this.yaml = element('code');
    return element('section', {class: 'card'},
      element('header', {}, element('h3', {}, 'Settings')), this.recipe,
      element('details', {}, element('summary', {}, 'The job file as it was submitted'),
              element('pre', {tabindex: '0', 'aria-label': 'Job file'}, this.yaml)));
  }

  async refresh(signal) {
    const job = await get(jobPath(this.id), {}, signal);
    this.showHeader(job);
    this.node.hidden = false;
    this.transitions.update(job.transitions);
    const settled = hasEnded(job.state) ? `${job.state} ${job.ended_ms}` : null;
    if (settled !== null && settled === this.settled) {
      // Of an ended job, too, checkpoints are pinned and let go.
      const {checkpoints} = await get(jobPath(this.id, '/checkpoints'), {}, signal);
      this.checkpoints.update(checkpoints, job);
      return;
    }
    const [, {checkpoints}, {plans}, logEnded] = await Promise.all([
      this.charts.refresh(job, signal),
      get(jobPath(this.id, '/checkpoints'), {}, signal),
      get(jobPath(this.id, '/shards'), {}, signal),
      this.log.refresh(job, signal),
    ]);
    this.checkpoints.update(checkpoints, job);
    this.shards.update(plans, job);
    if (logEnded) this.settled = settled;
  }

  showHeader(job) {
    const now = Date.now();
    const progress = job.progress;
    this.title = progress && job.state === 'RUNNING' && share(progress) !== null
      ? `${percent(share(progress), 0)} ${job.name}` : `${job.name} (${job.state.toLowerCase()})`;
    setText(this.name, job.name);
    setState(this.badge, job.state);
    setText(this.subtitle, subtitle(job, now));
    setText(this.reason, job.reason);
    setProgress(this.bar, share(progress), `Progress of ${job.id}`);
    this.bar.dataset.state = job.state;
    setText(this.recipe, recipe(job));
    setText(this.yaml, job.yaml);
    const live = job.state === 'RUNNING';
    const ended = hasEnded(job.state) && job.started_ms !== null;
    setText(this.figures.get('Time left').previousElementSibling, ended ? 'Took' : 'Time left');
    const latest = job.validation[0];
    const values = {
      'Step': progress?.total_steps ? `${count(progress.step)} / ${count(progress.total_steps)}` : DASH,
      'Epoch': progress?.step ? `${progress.epoch + 1} / ${job.spec.train.epochs}` : DASH,
      'Loss': decimal(progress?.loss),
      'Images/s': live || ended ? rate(progress?.images_per_second) : DASH,
      'Time left': ended ? duration((job.ended_ms - job.started_ms) / 1000)
                         : live ? duration(progress?.seconds_left) : DASH,
      'Accuracy': latest ? percent(latest.accuracy) : DASH,
    };
    for (const [name, value] of Object.entries(values)) setText(this.figures.get(name), value);
    setText(this.figures.get('Accuracy').previousElementSibling,
            latest ? `Accuracy, ${latest.set}` : 'Accuracy');
  }

  destroy() {
    this.charts.destroy();
  }
}

function subtitle(job, now) {
  const parts = [job.id, workersText(job),
                 `submitted ${age(job.submitted_ms, now)}${job.submitter ? ` by ${job.submitter}` : ''}`];
  if (job.attempt > 1) parts.push(`attempt ${job.attempt}`);
  if (job.ended_ms !== null) parts.push(`ended ${clockTime(job.ended_ms)}`);
  return parts.join(' · ');
}

function workersText(job) {
  const all = `${count(job.workers)} ${job.workers === 1 ? 'worker' : 'workers'}`;
  const where = job.placement.map((node) => `${node.slots} on ${node.node}`).join(', ');
  if (!where) return job.min_workers < job.workers ? `${job.min_workers} to ${all}` : all;
  return `${job.workers_now < job.workers ? `${job.workers_now} of ${all}` : all}: ${where}`;
}

function recipe({spec, workers}) {
  const batch = spec.data.total_batch_size ?? spec.data.batch_size * workers;
  return [
    `${spec.model.network}, ${spec.model.embedding_size}-d`,
    `${spec.loss.type} margin ${spec.loss.margin} scale ${spec.loss.scale}`,
    `${count(batch)} images per step`,
    `${spec.optimizer.type} lr ${spec.optimizer.lr} (${spec.optimizer.schedule.type}), ` +
      `weight decay ${spec.optimizer.weight_decay}`,
    `${count(spec.train.epochs)} epochs`, `seed ${spec.train.seed}`, spec.data.train,
  ].join(' · ');
}

// The curves of one job, as far as the page has fetched them. Pure data.

export class Curves {
  constructor() {
    this.byName = new Map();  // name -> [{x: step, y: value}], ascending in x
    this.lastStep = -1;
  }

  // What to ask for next. The last step is asked for again: its validation may have been reported
  // after its loss. All is asked for again while a restarted job trains steps a second time
  // (`step` lies behind), since those points replace what is here.
  afterStep(step) {
    return step < this.lastStep ? -1 : Math.max(-1, this.lastStep - 1);
  }

  // Takes what /metrics?after_step=afterStep answered.
  merge(series, afterStep) {
    for (const {name, steps, values} of series) {
      const kept = (this.byName.get(name) ?? []).filter((point) => point.x <= afterStep);
      const points = steps.map((step, index) => ({x: step, y: values[index]}));
      this.byName.set(name, kept.concat(points));
    }
    this.lastStep = -1;
    for (const points of this.byName.values()) {
      if (points.length) this.lastStep = Math.max(this.lastStep, points[points.length - 1].x);
    }
  }

  points(name) {
    return this.byName.get(name) ?? [];
  }
}

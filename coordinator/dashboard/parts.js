// Pieces that more than one view shows.
import {element, setAttribute, setText} from '/dom.js';
import {percent} from '/format.js';

const JOB_WORDS = {
  PENDING: 'Pending', STARTING: 'Starting', RUNNING: 'Running', RESTARTING: 'Restarting',
  COMPLETED: 'Completed', FAILED: 'Failed', CANCELLED: 'Cancelled', PREEMPTED: 'Preempted',
  PAUSED: 'Paused',
};

const NODE_WORDS = {
  UNKNOWN: 'Not seen yet', UP: 'Up', DOWN: 'Down', DRAINED: 'Drained', CORDONED: 'Cordoned',
};

export const STATES = Object.keys(JOB_WORDS);

export const stateWord = (state) => JOB_WORDS[state] ?? NODE_WORDS[state] ?? state;

export const hasEnded = (state) => ['COMPLETED', 'FAILED', 'CANCELLED'].includes(state);

// Waits for slots.
export const waits = (state) => ['PENDING', 'RESTARTING', 'PREEMPTED'].includes(state);

export const stateBadge = () => element('span', {class: 'state'});

export function setState(badge, state) {
  setAttribute(badge, 'data-state', state);
  setText(badge, stateWord(state));
}

export const progressBar = () =>
  element('div', {class: 'bar', role: 'progressbar', 'aria-valuemin': '0', 'aria-valuemax': '100'},
          element('i'));

// `share` 0..1, or null when it is not known.
export function setProgress(bar, share, label) {
  bar.firstElementChild.style.width = `${(share ?? 0) * 100}%`;
  setAttribute(bar, 'aria-label', label);
  setAttribute(bar, 'aria-valuenow', share === null ? null : Math.floor(share * 100));
  setAttribute(bar, 'aria-valuetext', share === null ? 'not started' : percent(share, 0));
}

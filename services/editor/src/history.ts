// Undo and redo over map and style together.

export const STEPS_MAX = 200;

export class History<T> {
  private past: T[] = [];
  private future: T[] = [];

  constructor(private present: T) {}

  get state(): T {
    return this.present;
  }
  get canUndo(): boolean {
    return this.past.length > 0;
  }
  get canRedo(): boolean {
    return this.future.length > 0;
  }
  get steps(): number {
    return this.past.length;
  }

  /** Go on to a new state; what was undone is forgotten. */
  push(state: T): void {
    this.past.push(this.present);
    if (this.past.length > STEPS_MAX) this.past.shift();
    this.present = state;
    this.future = [];
  }

  undo(): boolean {
    const before = this.past.pop();
    if (before === undefined) return false;
    this.future.push(this.present);
    this.present = before;
    return true;
  }

  redo(): boolean {
    const after = this.future.pop();
    if (after === undefined) return false;
    this.past.push(this.present);
    this.present = after;
    return true;
  }

  reset(state: T): void {
    this.past = [];
    this.future = [];
    this.present = state;
  }
}

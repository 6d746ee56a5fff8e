// Short words about what just happened, with an undo where one exists. They wait while pointed at or focused.

export interface Toast {
  id: number;
  text: string;
  action: { label: string; run: () => void } | null;
}

const PLAIN_MS = 6_000; // long enough to read two lines
const UNDO_MS = 12_000; // a decision takes longer than a glance

class Toasts {
  items = $state.raw<readonly Toast[]>([]);
  #next = 1;
  readonly #timers = new Map<number, ReturnType<typeof setTimeout>>();

  say(text: string, action: Toast['action'] = null): void {
    const toast = { id: this.#next++, text, action };
    this.items = [...this.items, toast].slice(-3);
    this.resume(toast);
  }

  close(id: number): void {
    this.pause(id);
    this.items = this.items.filter((one) => one.id !== id);
  }

  pause(id: number): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }

  resume(toast: Toast): void {
    this.pause(toast.id);
    const timer = setTimeout(() => this.close(toast.id), toast.action === null ? PLAIN_MS : UNDO_MS);
    this.#timers.set(toast.id, timer);
  }
}

export const toasts = new Toasts();

// The address bar as state, for apps with a few pages. Links stay links: middle click, copy and reload work.

export class Router {
  path = $state(location.pathname);
  search = $state(location.search);

  constructor(private readonly base: string) {
    addEventListener('popstate', () => this.#look());
    document.addEventListener('click', (event) => this.#follow(event));
  }

  /** `to`: a path, perhaps with a query. */
  go(to: string): void {
    if (to !== location.pathname + location.search) history.pushState(null, '', to);
    this.#look();
    scrollTo(0, 0);
  }

  #look(): void {
    this.path = location.pathname;
    this.search = location.search;
  }

  /** What lies below the base, split: `/admin/users/usr_1` → `['users', 'usr_1']`. */
  get parts(): readonly string[] {
    return this.path.slice(this.base.length).split('/').filter((part) => part !== '').map(decode);
  }

  #follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (link === null || link.target !== '' || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (link.pathname !== this.base && !link.pathname.startsWith(`${this.base}/`)) return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray percent sign
  }
}

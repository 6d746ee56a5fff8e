// The page's icon, where the shell has none.

import icon from './icon.svg';

export function addPageIcon(): void {
  if (document.querySelector('link[rel~="icon"]') !== null) return;
  const link = document.createElement('link');
  link.rel = 'icon';
  link.href = icon;
  document.head.append(link);
}

// The palette's list: what can be done now and holds every word that was typed, best first.

export interface PaletteItem {
  id: string;
  text: string;
  enabled: boolean;
  run: () => void;
}

export function matching(items: readonly PaletteItem[], search: string): PaletteItem[] {
  const words = search.toLocaleLowerCase().split(/\s+/).filter((word) => word !== '');
  const possible = items.filter((item) => item.enabled);
  const hits = possible.filter((item) => words.every((word) => item.text.toLocaleLowerCase().includes(word)));
  const starts = (item: PaletteItem): number => (words[0] !== undefined && item.text.toLocaleLowerCase().startsWith(words[0]) ? 0 : 1);
  return hits.sort((a, b) => starts(a) - starts(b));
}

// A recording's peaks (0..255, one list per side, evenly spread over its duration) drawn as bars.

const FULL = 255;

/** `count` bars of 0..1: each the loudest peak of its stretch, so that a short word is not averaged away. */
export function bars(peaks: readonly number[], count: number): number[] {
  if (peaks.length === 0 || count <= 0) return [];
  return Array.from({ length: count }, (_, bar) => {
    const from = Math.floor((bar * peaks.length) / count);
    const to = Math.max(from + 1, Math.floor(((bar + 1) * peaks.length) / count));
    let loudest = 0;
    for (let at = from; at < to; at += 1) loudest = Math.max(loudest, peaks[at] ?? 0);
    return Math.min(1, loudest / FULL);
  });
}

export interface Colours {
  played: string;
  ahead: string;
}

const BAR_PX = 3;
const GAP_PX = 1;

/** Draws one side over the whole canvas. `share` is how much has been played, 0..1. */
export function draw(canvas: HTMLCanvasElement, peaks: readonly number[], share: number, colours: Colours): void {
  const pen = canvas.getContext('2d');
  if (pen === null) return;
  const scale = globalThis.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  pen.scale(scale, scale);
  const heights = bars(peaks, Math.floor(width / (BAR_PX + GAP_PX)));
  heights.forEach((loudness, bar) => {
    const tall = Math.max(1, loudness * height);
    pen.fillStyle = (bar + 0.5) / heights.length <= share ? colours.played : colours.ahead;
    pen.fillRect(bar * (BAR_PX + GAP_PX), (height - tall) / 2, BAR_PX, tall);
  });
}

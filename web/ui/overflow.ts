// Which sides of a scroll container hide something. Pure.

export interface Scrolled {
  scrollLeft: number;
  scrollWidth: number;
  clientWidth: number;
}

export interface Hidden {
  left: boolean;
  right: boolean;
}

const SLACK_PX = 1; // fractions of a pixel are not worth a shadow

/** In a right-to-left page `scrollLeft` runs from 0 at the right end to negative numbers. */
export function hiddenSides({ scrollLeft, scrollWidth, clientWidth }: Scrolled, rightToLeft: boolean): Hidden {
  const room = scrollWidth - clientWidth;
  const left = rightToLeft ? room + scrollLeft : scrollLeft;
  return { left: left > SLACK_PX, right: room - left > SLACK_PX };
}

/** The one call of this page and what it talks to. They live as long as the page. */
import { readBoot } from '../../core/src/boot';
import { CustomerCall } from '../../core/src/customer_call';
import { createRest } from '../../core/src/rest';
import { Speaker } from '../../core/src/speaker';
import { hostLink } from './host_link';

const key = new URLSearchParams(location.search).get('key') ?? '';

export const boot = readBoot();
export const host = hostLink();
export const speaker = new Speaker();
export const call = new CustomerCall({ key, rest: createRest(), play: speaker.play });

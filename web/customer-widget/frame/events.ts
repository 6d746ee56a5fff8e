/** Tells the host page what happens, each thing once: the events of its `cc('on', …)`. */
import type { CustomerCall } from '../../core/src/customer_call';
import type { CustomerState } from '../../core/src/state/customer';
import type { CallPhase } from '../messages';
import type { HostLink } from './host_link';

export function reportTo(host: HostLink, call: CustomerCall): void {
  const fresh = changes();
  call.state.subscribe((state) => {
    const phase = phaseOf(state);
    if (phase !== null && fresh('call', phase)) {
      const end_reason = state.call?.end_reason ?? null;
      host.tell({ patchbay: 'event', name: 'call', detail: { state: phase, end_reason } });
    }
    if (state.position !== null && fresh('queue', `${state.position} ${state.wait?.low_s} ${state.wait?.high_s}`)) {
      host.tell({ patchbay: 'event', name: 'queue', detail: { position: state.position, ewt: state.wait } });
    }
    if (fresh('fault', state.fault) && state.fault !== null) {
      host.tell({ patchbay: 'event', name: 'device', detail: { code: state.fault } });
    }
    const error = state.error ?? state.infoError;
    if (fresh('error', error) && error !== null) {
      host.tell({ patchbay: 'event', name: 'error', detail: { code: error } });
    }
    if (state.info && fresh('info', state.info.agents_ready)) {
      host.tell({ patchbay: 'event', name: 'availability', detail: { agents_ready: state.info.agents_ready } });
    }
  });
  call.quiet.subscribe((quiet) => {
    if (quiet !== null) host.tell({ patchbay: 'event', name: 'device', detail: { code: quiet } });
  });
  call.quality.subscribe((quality) => {
    const mos = quality && Math.round(quality.mos * 10) / 10;
    if (mos !== null && fresh('mos', mos)) host.tell({ patchbay: 'event', name: 'quality', detail: { mos } });
  });
}

/** Null before the first call; a cancelled one has ended. */
function phaseOf(state: CustomerState): CallPhase | null {
  if (state.phase === 'starting') return 'starting';
  return state.phase === 'idle' ? null : (state.call?.state ?? 'ended');
}

function changes(): (name: string, value: unknown) => boolean {
  const last = new Map<string, unknown>();
  return (name, value) => {
    if (last.get(name) === value) return false;
    last.set(name, value);
    return true;
  };
}

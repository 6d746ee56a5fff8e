import { mount } from 'svelte';
import '../../ui/tokens.css';
import '../../ui/base.css';
import App from './App.svelte';
import { reportTo } from './events';
import { call, host, speaker } from './session';

// Diagnostics, also for browser tests: read-only.
Object.assign(window, {
  __patchbay: {
    remoteStream: () => speaker.stream,
    leg: () => ({ generation: call.leg?.generation ?? null, state: call.state.get().leg }),
    connection: () => ({ state: call.line?.state.get().name ?? null, seq: call.line?.seq ?? null }),
  },
});

mount(App, { target: document.body });
reportTo(host, call);
host.tell({ patchbay: 'ready' });
void call.load();

// What support and the browser tests read from the console of a page: never more than the page itself shows.

import type { AgentDesk } from '../../core/src/agent_desk';
import type { ConnectionState } from '../../core/src/signalling';

interface Diagnostics {
  remoteStream: () => MediaStream | null;
  leg: () => { generation: number; state: string } | null;
  connection: () => ConnectionState;
}

export function exposeDiagnostics(desk: AgentDesk): void {
  const hook: Diagnostics = {
    remoteStream: () => desk.diagnostics.remoteStream,
    leg() {
      const { generation, leg } = desk.diagnostics;
      return generation === null ? null : { generation, state: leg };
    },
    connection: () => desk.state.get().connection,
  };
  Object.assign(window, { __patchbay: hook });
}

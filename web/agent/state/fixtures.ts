// Values for the tests of this folder.

import type { AgentView, ContactView } from '../../core/src/wire';

export const AT = 1_700_000_000_000;

export function contact(over: Partial<ContactView> = {}): ContactView {
  return {
    session_id: 'ses_1',
    segment_id: 'seg_1',
    version: 1,
    channel: 'voice',
    state: 'offered',
    customer: { name: 'Li Wei', locale: 'zh-CN', page_url: '', context: {} },
    queue_id: 'que_1',
    queue_name: 'Sales',
    queued_at: AT - 30_000,
    offered_at: AT,
    offer_deadline_at: AT + 20_000,
    talk_started_at: null,
    ended_at: null,
    wrap_up_deadline_at: null,
    wrap_up_extend_s: null,
    end_reason: null,
    taken_by: null,
    customer_reconnecting: false,
    customer_unheard: null,
    you_unheard: null,
    recording: 'off',
    recording_change: null,
    recording_resumes_at: null,
    leg: { leg_id: 'leg_1', generation: 0, state: 'wanted' },
    notes: '',
    disposition_id: null,
    role: 'owner',
    invited_by: '',
    muted: false,
    customer_hears: true,
    others: [],
    monitor: null,
    agent_name: 'Ana',
    ...over,
  };
}

export function agent(over: Partial<AgentView> = {}): AgentView {
  return {
    user_id: 'usr_1',
    version: 1,
    state: 'ready',
    chosen: 'ready',
    reason_id: null,
    since: AT,
    next_state: null,
    forced_by: null,
    fault: null,
    ...over,
  };
}

/** The widget's own words, and where a customer is told something else than an agent. */

/** Kept with the session; a new wording gets a new version. */
export const CONSENT_VERSION = 'recording-notice-1';

export const en = {
  'widget.title': 'Call {queue}',
  'widget.title.plain': 'Call us',
  'widget.close': 'Close this panel',
  'widget.loading': 'Loading…',
  'widget.log': 'What happened so far',
  'widget.unavailable': 'Calls are not possible right now',
  'widget.retry': 'Try again',

  'form.lead': 'Talk to us here, from your browser. You need a microphone.',
  'form.ready': 'Agents are ready to answer.',
  'form.busy': 'No agent is free right now: you may have to wait.',
  'form.name': 'Your name (optional)',
  'form.recording': 'This call may be recorded for training and quality. By starting it you agree.',
  'form.start': 'Start call',

  'microphone.title': 'Allow your microphone',
  'microphone.lead': 'Your browser asks for the microphone. Please choose “Allow”.',
  'microphone.fault': 'Your microphone is not available',
  'microphone.retry': 'Try again',
  'microphone.meter': 'Microphone level',
  'microphone.good': 'We can hear your microphone.',
  'microphone.speak': 'Say something: the bar moves when we hear you.',

  'queue.title': 'You are in the queue',
  'queue.place': 'Number {n} in line',
  'queue.next': 'You are next in line',
  'queue.waiting': 'Waiting for {time}',
  'queue.keep': 'Keep this page open. You can close this panel: your place is kept.',

  'connecting.title': 'Connecting…',
  'connecting.lead': 'You are being connected to an agent.',
  'connecting.agent': 'You are being connected to {agent}.',

  'call.with': 'In a call with',
  'call.agent': 'Agent',
  'call.talking': 'You are talking to {agent}.',
  'call.held': 'On hold',
  'call.held.said': 'You are on hold.',
  'call.time': 'Call time',
  'call.mute': 'Mute',
  'call.unmute': 'Unmute',
  'call.muted': 'You are muted',
  'call.hang_up': 'Hang up',
  'call.cancel': 'Leave',
  'call.recording.on': 'This call is recorded',
  'call.recording.paused': 'Recording is paused',
  'call.sound': 'Turn the sound on',

  'reconnecting.line': 'Reconnecting…',
  'reconnecting.sound': 'Reconnecting the sound…',
  'reconnecting.agent': 'The agent is reconnecting…',

  'elsewhere.title': 'Your call goes on in another tab',
  'elsewhere.here': 'Take over here',

  'ended.title': 'Call ended',
  'ended.length': 'You talked for {time}.',
  'ended.again': 'Call again',

  'end.customer_hung_up': 'You ended the call.',
  'end.agent_hung_up': 'The agent ended the call.',
  'end.abandoned': 'You left before an agent answered.',
  'end.customer_lost': 'Your connection was lost.',
  'end.agent_lost': 'We lost the connection to the agent. We are sorry.',
  'end.system_failed': 'The call ended because of a fault on our side. We are sorry.',
} as const;

export const zhCN: Readonly<Record<keyof typeof en, string>> = {
  'widget.title': '致电 {queue}',
  'widget.title.plain': '在线通话',
  'widget.close': '关闭面板',
  'widget.loading': '正在加载…',
  'widget.log': '通话记录',
  'widget.unavailable': '目前无法通话',
  'widget.retry': '重试',

  'form.lead': '直接在浏览器中与我们通话，您需要一个麦克风。',
  'form.ready': '客服在线，可以接听。',
  'form.busy': '目前没有空闲的客服，您可能需要等待。',
  'form.name': '您的称呼（选填）',
  'form.recording': '为培训和服务质量，本次通话可能会被录音。开始通话即表示您同意。',
  'form.start': '开始通话',

  'microphone.title': '请允许使用麦克风',
  'microphone.lead': '浏览器正在请求使用麦克风，请选择“允许”。',
  'microphone.fault': '您的麦克风不可用',
  'microphone.retry': '重试',
  'microphone.meter': '麦克风音量',
  'microphone.good': '我们能听到您的麦克风。',
  'microphone.speak': '请说句话：听到您的声音时音量条会移动。',

  'queue.title': '您正在排队',
  'queue.place': '您排在第 {n} 位',
  'queue.next': '下一位就是您',
  'queue.waiting': '已等待 {time}',
  'queue.keep': '请保持此页面打开。您可以关闭此面板，排队位置会保留。',

  'connecting.title': '正在接通…',
  'connecting.lead': '正在为您接通客服。',
  'connecting.agent': '正在为您接通 {agent}。',

  'call.with': '正在通话',
  'call.agent': '客服',
  'call.talking': '您正在与 {agent} 通话。',
  'call.held': '保持中',
  'call.held.said': '通话已被保持。',
  'call.time': '通话时长',
  'call.mute': '静音',
  'call.unmute': '取消静音',
  'call.muted': '您已静音',
  'call.hang_up': '挂断',
  'call.cancel': '离开',
  'call.recording.on': '本次通话正在录音',
  'call.recording.paused': '录音已暂停',
  'call.sound': '打开声音',

  'reconnecting.line': '正在重新连接…',
  'reconnecting.sound': '正在恢复声音…',
  'reconnecting.agent': '客服正在重新连接…',

  'elsewhere.title': '您的通话正在另一个标签页中进行',
  'elsewhere.here': '在此接管',

  'ended.title': '通话已结束',
  'ended.length': '通话时长 {time}。',
  'ended.again': '再次呼叫',

  'end.customer_hung_up': '您已结束通话。',
  'end.agent_hung_up': '客服已结束通话。',
  'end.abandoned': '您在接通前离开了。',
  'end.customer_lost': '您的连接已断开。',
  'end.agent_lost': '我们与客服的连接已断开，非常抱歉。',
  'end.system_failed': '由于我们的故障，通话已结束，非常抱歉。',
};

import { expect, it } from 'vitest';
import { NotesOutbox } from '../src/notes_outbox';
import { WireFailure } from '../src/requests';
import type { SaveNotes } from '../src/wire';
import { FakeClock } from './fakes';

function setUp() {
  const clock = new FakeClock();
  const sent: string[] = [];
  const refused: string[] = [];
  const saved: string[] = [];
  let answer: string | null = null;
  const outbox = new NotesOutbox({
    clock,
    send: ({ notes }) => {
      sent.push(notes);
      return answer === null ? Promise.resolve({}) : Promise.reject(new WireFailure(answer));
    },
    typed: () => undefined,
    saved: (segmentId) => saved.push(segmentId),
    refused: (code) => refused.push(code),
  });
  const draft = (notes: string): SaveNotes => ({ session_id: 'ses_1', segment_id: 'seg_1', notes, disposition_id: null });
  return { clock, outbox, sent, refused, saved, draft, answerWith: (code: string | null) => (answer = code) };
}

it.each(['rate_limited', 'storage_unavailable'])('keeps notes that the server can’t take now: %s', async (code) => {
  const { clock, outbox, sent, refused, saved, draft, answerWith } = setUp();
  answerWith(code);
  outbox.type(draft('a'));
  await clock.pass(700);
  await clock.pass(4000);
  expect(sent).toEqual(['a']);
  outbox.type(draft('ab'));
  await clock.pass(700);
  expect(sent).toEqual(['a', 'ab']);
  answerWith(null);
  await clock.pass(6000);
  expect(sent).toEqual(['a', 'ab', 'ab']);
  expect(saved).toEqual(['seg_1']);
  expect(refused).toEqual([]);
});

it('tells of a refusal that waiting does not mend', async () => {
  const { clock, outbox, sent, refused, draft, answerWith } = setUp();
  answerWith('not_your_contact');
  outbox.type(draft('a'));
  await clock.pass(60_000);
  expect(sent).toEqual(['a']);
  expect(refused).toEqual(['not_your_contact']);
});

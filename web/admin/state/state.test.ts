import { describe, expect, it } from 'vitest';
import type { EntryPoint, Queue, User } from '../../core/src/rest_types';
import { ofQueue, ofUser } from './consequences';
import { checkQueue, checkUser, comesOnTop, faultySite, mixable, NEW_CAPACITY, NEW_QUEUE, parseSites, withOnTop } from './forms';
import { leadingTo, whereUsed } from './uses';
import { levelOf, moved, parseLevel, setLevel, skillsWith } from './grid';

const user: User = {
  user_id: 'usr_1', login: 'ana', name: 'Ana', role: 'agent', active: true, created_at: 0, version: 1,
  skills: [{ skill_id: 'skl_1', level: 5 }], capacity: NEW_CAPACITY,
};
const queue: Queue = { ...NEW_QUEUE, name: 'Sales', queue_id: 'que_1', active: true, version: 1, warnings: null };

describe('forms', () => {
  it('accepts what the contract accepts', () => {
    expect(checkQueue({ ...NEW_QUEUE, name: 'Sales' })).toEqual({});
    expect(checkUser({ login: 'ana', name: 'Ana', role: 'agent', skills: [{ skill_id: 's', level: 10 }], capacity: NEW_CAPACITY })).toEqual({});
  });

  it('names each field that is wrong', () => {
    expect(checkQueue({ ...NEW_QUEUE, name: ' ', ring_timeout_s: 4, wrap_up_s: 601, service_level_s: Number.NaN })).toEqual({
      name: 'required', ring_timeout_s: 'out_of_range', wrap_up_s: 'out_of_range', service_level_s: 'out_of_range',
    });
    expect(checkUser({ login: 'a b', name: '', role: 'agent', skills: [{ skill_id: 's', level: 11 }], capacity: NEW_CAPACITY })).toEqual({
      name: 'required', login: 'login_pattern', skills: 'out_of_range',
    });
  });

  it('knows what an agent may hold at once', () => {
    const person = { login: 'ana', name: 'Ana', role: 'agent', skills: [] } as const;
    const holding = (voice: number, chat: number) => ({ ...NEW_CAPACITY, channels: { voice, chat, email: 0 } });
    expect(checkUser({ ...person, skills: [], capacity: holding(2, Number.NaN) })).toEqual({
      'capacity.channels.voice': 'out_of_range', 'capacity.channels.chat': 'out_of_range',
    });
    expect(mixable(holding(1, 0))).toEqual([]);
    expect(mixable(holding(1, 3))).toEqual([{ channel: 'voice', over: 'chat' }, { channel: 'chat', over: 'voice' }]);
    const mixed = withOnTop(holding(1, 3), 'voice', 'chat', true);
    expect([comesOnTop(mixed, 'voice', 'chat'), comesOnTop(mixed, 'chat', 'voice')]).toEqual([true, false]);
    expect(withOnTop(mixed, 'voice', 'chat', false)).toEqual(holding(1, 3));
  });

  it('reads sites, one a line, and names the one that is none', () => {
    expect(parseSites('https://shop.example\nhttps://shop2.example, http://localhost:8080/')).toEqual({
      sites: ['https://shop.example', 'https://shop2.example', 'http://localhost:8080'], fault: null,
    });
    expect(parseSites('https://a.example\nhttps://a.example').sites).toHaveLength(1);
    expect(parseSites('https://a.example/path').fault).toBe('https://a.example/path');
    expect(parseSites('ftp://a.example').fault).toBe('ftp://a.example');
  });

  it('does not guess the scheme of a site', () => {
    for (const site of ['shop.example', 'localhost:8080', '//shop.example']) expect(parseSites(site).fault).toBe(site);
  });

  it('names the site that the page or the server refuses', () => {
    const sent = ['https://a.example', 'https://*.example'];
    expect(faultySite({ allowed_sites: 'not_a_site' }, 'a.example', [])).toBe('a.example');
    expect(faultySite({ 'allowed_sites.1': 'value_error' }, null, sent)).toBe('https://*.example');
    expect(faultySite({ 'allowed_sites.7': 'value_error' }, null, sent)).toBeNull();
    expect(faultySite({ name: 'required', allowed_sites: 'too_long' }, null, sent)).toBeNull();
  });
});

describe('consequences', () => {
  it('says what changes, and only that', () => {
    expect(ofQueue(queue, { ...queue })).toEqual(['none']);
    expect(ofQueue(queue, { ...queue, wrap_up_s: 0, record: false })).toEqual(['queue_no_wrap_up', 'queue_record_off']);
    expect(ofQueue(null, NEW_QUEUE)).toEqual(['queue_new']);
    expect(ofUser(user, { ...user, skills: [{ skill_id: 'skl_1', level: 6 }] })).toEqual(['user_skills']);
    expect(ofUser(user, { ...user, role: 'admin' })).toEqual(['user_role']);
    const turned = { ...NEW_CAPACITY, on_top: NEW_CAPACITY.on_top.toReversed() };
    expect(ofUser(user, { ...user, capacity: turned })).toEqual(['none']);
    expect(ofUser(user, { ...user, capacity: { ...turned, channels: { voice: 1, chat: 3, email: 0 } } })).toEqual(['user_capacity']);
  });
});

describe('grid', () => {
  it('keeps only what differs', () => {
    const edits = setLevel({}, user, 'skl_1', 7);
    expect(levelOf(edits, user, 'skl_1')).toBe(7);
    expect(setLevel(edits, user, 'skl_1', 5)).toEqual({});
  });

  it('sends all skills of the person, without the ones set to none', () => {
    const edits = setLevel(setLevel({}, user, 'skl_1', 0), user, 'skl_2', 3);
    expect(skillsWith(edits, user)).toEqual([{ skill_id: 'skl_2', level: 3 }]);
  });

  it('reads a typed level', () => {
    expect(['', '0', '1', '10', '11', 'x', '2.5'].map(parseLevel)).toEqual([0, 0, 1, 10, null, null, null]);
  });

  it('moves like a spreadsheet and stays inside', () => {
    expect(moved({ row: 0, column: 0 }, 'ArrowUp', 2, 3)).toEqual({ row: 0, column: 0 });
    expect(moved({ row: 0, column: 0 }, 'Enter', 2, 3)).toEqual({ row: 1, column: 0 });
    expect(moved({ row: 1, column: 1 }, 'End', 2, 3)).toEqual({ row: 1, column: 2 });
    expect(moved({ row: 1, column: 1 }, 'a', 2, 3)).toBeNull();
  });
});

describe('uses', () => {
  it('names the active rows that stand on a skill', () => {
    const gone = { ...user, name: 'Gone', active: false };
    const asking = { ...queue, skills: [{ skill_id: 'skl_1', min_level: 1 }] };
    expect(whereUsed('skl_1', [asking, queue], [user, gone])).toEqual({ queues: ['Sales'], users: ['Ana'] });
  });

  it('names the entry points that lead to a queue', () => {
    const entry: EntryPoint = {
      entry_point_id: 'ep_1', name: 'Shop', kind: 'widget', queue_id: 'que_1', key: 'wk', allowed_sites: [], embed_code: '', active: true, version: 1,
    };
    expect(leadingTo('que_1', [entry, { ...entry, active: false }])).toEqual(['Shop']);
  });
});

// The load's data path: each leg of the group whose turn it is sends 50 packets a second on a socket of its own, spread
// over the 20 ms; all legs read what comes. ICE, DTLS and keys were done in Python (load.py), which is handed what STUN
// comes later. A payload begins with the time at which it was sent.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <srtp2/srtp.h>

enum { FRAME_MS = 20, PAYLOAD = 160, ROOM = 2048, READS = 16, LATENCY_EVERY = 8 };

typedef struct {
  int fd, secure, level_id, group;
  struct sockaddr_in to;
  srtp_t tx, rx;
  uint16_t sequence;
  uint32_t stamp, ssrc;
  uint64_t sent, received;
} leg_t;

static leg_t *legs;
static int count;
static int stun_fd;
static volatile int stopping, speaking;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int session(srtp_t *made, const uint8_t *key, srtp_ssrc_type_t direction) {
  srtp_policy_t policy;
  memset(&policy, 0, sizeof policy);
  srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtp);
  srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtcp);
  policy.ssrc.type = direction;
  policy.key = (unsigned char *)key;
  policy.window_size = 1024;
  return srtp_create(made, &policy);
}

int load_init(void) { return srtp_init(); }  // once: a second time is an error

// `stun`: a datagram socket that takes the number of a leg, 4 bytes, and its STUN message.
void load_begin(int n, int stun) {
  stopping = 0;
  speaking = -1;
  stun_fd = stun;
  count = n;
  legs = calloc(n, sizeof *legs);
}

// Keys are NULL for a phone. 0 when all is well.
int load_leg(int i, int group, int fd, const char *host, int port, const uint8_t *tx, const uint8_t *rx, int level_id) {
  leg_t *leg = &legs[i];
  leg->fd = fd;
  leg->group = group;
  leg->secure = tx != NULL;
  leg->level_id = level_id;
  leg->to.sin_family = AF_INET;
  leg->to.sin_port = htons(port);
  leg->sequence = 1000 + i;
  leg->ssrc = 0x50000000u + i;
  if (inet_pton(AF_INET, host, &leg->to.sin_addr) != 1) return -1;
  if (!leg->secure) return 0;
  return session(&leg->tx, tx, ssrc_any_outbound) || session(&leg->rx, rx, ssrc_any_inbound);
}

void load_speak(int group) { speaking = group; }  // -1: nobody

void load_counts(int group, uint64_t *sent, uint64_t *received) {
  *sent = *received = 0;
  for (int i = 0; i < count; i++)
    if (legs[i].group == group) *sent += legs[i].sent, *received += legs[i].received;
}

static void say(leg_t *leg) {
  _Alignas(8) uint8_t p[ROOM] = {0x80, 0};
  int n = 12;
  uint16_t sequence = htons(leg->sequence++);
  uint32_t stamp = htonl(leg->stamp), ssrc = htonl(leg->ssrc);
  leg->stamp += PAYLOAD;
  memcpy(p + 2, &sequence, 2), memcpy(p + 4, &stamp, 4), memcpy(p + 8, &ssrc, 4);
  if (leg->secure) {  // RFC 6464, as Chromium sends it
    const uint8_t level[] = {0xBE, 0xDE, 0, 1, leg->level_id << 4, 0x80 | 30, 0, 0};
    p[0] |= 0x10;
    memcpy(p + n, level, sizeof level), n += sizeof level;
  }
  uint64_t at = now_ns();
  memset(p + n, 0x55, PAYLOAD);
  memcpy(p + n, &at, 8), n += PAYLOAD;
  if (leg->secure && srtp_protect(leg->tx, p, &n)) return;
  leg->sent++;  // one that the system refuses was meant to arrive as well
  sendto(leg->fd, p, n, MSG_DONTWAIT, (struct sockaddr *)&leg->to, sizeof leg->to);
}

static void hand_over(leg_t *leg, const uint8_t *p, int n) {
  uint8_t message[ROOM + 4];
  uint32_t number = leg - legs;
  memcpy(message, &number, 4), memcpy(message + 4, p, n);
  send(stun_fd, message, n + 4, MSG_DONTWAIT);
}

static void hear(leg_t *leg, uint32_t *latencies, int room, int *found) {
  _Alignas(8) uint8_t p[ROOM];
  for (int i = 0; i < READS; i++) {
    int n = recv(leg->fd, p, sizeof p, MSG_DONTWAIT);
    if (n <= 0) return;
    if (p[0] < 4) hand_over(leg, p, n);
    if (n < 12 || p[0] < 128 || (p[1] >= 192 && p[1] < 224)) continue;  // STUN, DTLS, RTCP
    leg->received++;
    if (leg->received % LATENCY_EVERY || *found >= room) continue;
    uint64_t at = now_ns(), said;
    if (leg->secure && srtp_unprotect(leg->rx, p, &n)) continue;
    if (n < PAYLOAD) continue;
    memcpy(&said, p + n - PAYLOAD, 8);  // the payload is the packet's end
    if (said < at && at - said < 5000000000ull) latencies[(*found)++] = (at - said) / 1000;
  }
}

void load_stop(void) { stopping = 1; }

// Runs until load_stop. Latencies in microseconds.
void load_run(uint32_t *latencies, int room, int *found) {
  int poll = epoll_create1(0);
  for (int i = 0; i < count; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    epoll_ctl(poll, EPOLL_CTL_ADD, legs[i].fd, &event);
  }
  struct epoll_event events[256];
  uint64_t next = now_ns();
  for (int tick = 0; !stopping;) {
    for (; now_ns() >= next; next += 1000000, tick = (tick + 1) % FRAME_MS)
      for (int i = tick; i < count; i += FRAME_MS)
        if (legs[i].group == speaking) say(&legs[i]);
    int ready = epoll_wait(poll, events, 256, 1);
    for (int i = 0; i < ready; i++) hear(&legs[events[i].data.u32], latencies, room, found);
  }
}

/* The usual packet's way from one peer's socket to another's: receive, decrypt, count, keep for the recording, new
 * header, encrypt, send. What it is and when it is used stands in ways.py; what each step does is what srtp.py, rtp.py,
 * capture.py and the links do in Python, which are its twin (tests/contract/test_ways.py). Nothing of Python is used
 * here. One thread only: the event loop's.
 *
 * A packet is looked at before it is decrypted, since only then can it still be given back as it came: what a way does
 * not expect goes to Python.
 */

#include <math.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#define ABI 1
#define MAX_FD 65536
#define DATAGRAM 2048     /* as srtp.ARRIVED */
#define SRTP_ROOM 1500    /* srtp.ROOM_BYTES */
#define SRTP_TRAILER 144  /* srtp.RTP_TRAILER_BYTES */
#define TAG 16            /* the longest of our suites' */
#define MAX_JUMP 3000     /* rtp.MAX_JUMP */
#define HEAD 12
#define HEAD_LEVEL 20
#define RECORD_EXTRA 21   /* 11 of the record's head, 6 of the packet's, 4 of the CRC */
#define EVENTS 128

typedef int (*transform)(void *srtp, void *packet, int *size);

/* As in ways.py. Addresses and ports in network order. */
typedef struct {
  /* in */
  void *rx;
  uint32_t from_ip;
  uint16_t from_port;
  uint16_t payload_type;
  uint32_t ssrc;
  int32_t level_id; /* 0: none */
  /* statistics */
  int64_t highest, received, clock;
  double units_per_ns, transit, jitter;
  int64_t heard_ns, refused;
  int32_t level;
  /* recording */
  int32_t room;
  uint8_t *records; /* NULL: it is not recorded */
  int64_t size, origin_ns;
  /* out */
  void *tx;
  int32_t out_fd;
  uint32_t to_ip;
  uint16_t to_port;
  uint16_t out_type;
  uint32_t out_ssrc;
  int32_t out_level_id;
  uint32_t newest_in, last_sequence, sequence_shift, timestamp_shift;
  int64_t steps;
  uint32_t last_timestamp;
  uint32_t pad;
  int64_t last_ns, packets, octets, unsent;
} way;

/* What came and was not expected; size -1: the socket has something, and no way. */
typedef struct {
  int32_t fd, size;
  uint32_t ip;
  uint16_t port, pad;
  uint8_t data[DATAGRAM];
} fallen;

static transform unprotect, protect;
static way *ways[MAX_FD];
static uint32_t crc_table[8][256];

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get32(const uint8_t *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}
static void put16(uint8_t *at, uint16_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}
static void put32(uint8_t *at, uint32_t value) {
  put16(at, (uint16_t)(value >> 16));
  put16(at + 2, (uint16_t)value);
}
static void little(uint8_t *at, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++, value >>= 8) at[i] = (uint8_t)value;
}

/* CRC-32 as zlib's, eight bytes at a time ("slicing-by-8", Kounavis and Berry 2005). */
static void make_crc_table(void) {
  for (uint32_t n = 0; n < 256; n++) {
    uint32_t c = n;
    for (int k = 0; k < 8; k++) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
    crc_table[0][n] = c;
  }
  for (int t = 1; t < 8; t++)
    for (uint32_t n = 0; n < 256; n++) {
      uint32_t c = crc_table[t - 1][n];
      crc_table[t][n] = crc_table[0][c & 0xFF] ^ c >> 8;
    }
}

static uint32_t crc32_of(const uint8_t *at, size_t size) {
  uint32_t c = 0xFFFFFFFFu;
  for (; size >= 8; at += 8, size -= 8) {
    c ^= (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    c = crc_table[7][c & 0xFF] ^ crc_table[6][c >> 8 & 0xFF] ^ crc_table[5][c >> 16 & 0xFF] ^ crc_table[4][c >> 24] ^
        crc_table[3][at[4]] ^ crc_table[2][at[5]] ^ crc_table[1][at[6]] ^ crc_table[0][at[7]];
  }
  while (size--) c = crc_table[0][(c ^ *at++) & 0xFF] ^ c >> 8;
  return c ^ 0xFFFFFFFFu;
}

/* Where the payload begins, or 0 when Python is to look. */
static int payload_at(const way *w, const uint8_t *data, int size) {
  if (data[0] == 0x80) return HEAD;
  if (data[0] != 0x90 || size < HEAD + 4) return 0;
  int at = HEAD + 4 + 4 * get16(data + 14);
  if (size < at + (w->rx ? TAG : 0)) return 0;
  if (w->level_id && (at < HEAD_LEVEL || get16(data + 12) != 0xBEDE || data[16] >> 4 != w->level_id)) return 0;
  return at;
}

/* Whether the way may take it; `*at`: where its payload begins. */
static int expected(const way *w, const uint8_t *data, int size, const struct sockaddr_in *from, int *at) {
  if (size < HEAD + (w->rx ? TAG : 0) || size > SRTP_ROOM) return 0;
  if (from->sin_addr.s_addr != w->from_ip || from->sin_port != w->from_port) return 0;
  if ((data[1] & 0x7F) != w->payload_type || (data[1] > 191 && data[1] < 224)) return 0;
  if (get32(data + 8) != w->ssrc) return 0;
  int step = (get16(data + 2) - w->newest_in) & 0xFFFF;
  if (step > MAX_JUMP && step < 0x10000 - MAX_JUMP) return 0;
  if (w->records && w->size + size + RECORD_EXTRA > w->room) return 0;
  *at = payload_at(w, data, size);
  return *at != 0;
}

/* rtp.InStream.add */
static void count(way *w, uint16_t sequence, uint32_t timestamp, int64_t now_ns) {
  w->received++;
  int step = (int)((sequence - w->highest) & 0xFFFF);
  if (step < 0x8000) w->highest += step;
  double transit = (double)now_ns * w->units_per_ns - (double)timestamp;
  double change = fabs(transit - w->transit);
  w->transit = transit;
  if (change < (double)w->clock) w->jitter += (change - w->jitter) / 16;
}

/* capture.CaptureWriter, one record */
static void keep(way *w, uint16_t sequence, uint32_t timestamp, const uint8_t *payload, int size, int64_t now_ns) {
  uint8_t *record = w->records + w->size;
  int64_t at = now_ns - w->origin_ns;
  record[0] = 'P';
  little(record + 1, at > 0 ? (uint64_t)at : 0, 8);
  little(record + 9, (uint64_t)(6 + size), 2);
  little(record + 11, sequence, 2);
  little(record + 13, timestamp, 4);
  memcpy(record + 17, payload, (size_t)size);
  little(record + 17 + size, crc32_of(record, (size_t)(17 + size)), 4);
  w->size += RECORD_EXTRA + size;
}

/* rtp.OutStream.forward and the link's send_rtp. The header is written in front of the payload where it lies: `at` is
 * at least as long. `level` -1: none. */
static void forward(way *w, uint8_t *data, int at, int size, uint16_t number, uint32_t stamp, int level, int64_t now_ns) {
  int marker = data[1] & 0x80, late = 0, step = (number - w->newest_in) & 0xFFFF;
  if (step == 0) return;
  if (step < 0x8000) {
    w->steps += step;
  } else {
    if (0x10000 - step > w->steps) return;
    late = 1;
  }
  uint16_t sequence = (uint16_t)(number + w->sequence_shift);
  uint32_t timestamp = stamp + w->timestamp_shift;
  if (!late) {
    w->newest_in = number;
    w->last_sequence = sequence;
    if (timestamp != w->last_timestamp) {
      w->last_timestamp = timestamp;
      w->last_ns = now_ns;
    }
  }
  w->packets++;
  w->octets += size - at;
  int with_level = level >= 0 && w->out_level_id;
  uint8_t *packet = data + at - (with_level ? HEAD_LEVEL : HEAD);
  int length = (int)(data + size - packet);
  packet[0] = with_level ? 0x90 : 0x80;
  packet[1] = (uint8_t)(marker | w->out_type);
  put16(packet + 2, sequence);
  put32(packet + 4, timestamp);
  put32(packet + 8, w->out_ssrc);
  if (with_level) {
    put16(packet + 12, 0xBEDE);
    put16(packet + 14, 1);
    packet[16] = (uint8_t)(w->out_level_id << 4);
    packet[17] = (uint8_t)level;
    put16(packet + 18, 0);
  }
  if (w->tx && (length > SRTP_ROOM - SRTP_TRAILER || protect(w->tx, packet, &length))) {
    w->unsent++;
    return;
  }
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = w->to_ip, .sin_port = w->to_port};
  if (sendto(w->out_fd, packet, (size_t)length, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to) < 0) w->unsent++;
}

static void carry(way *w, uint8_t *data, int size, int at) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
  if (w->rx && unprotect(w->rx, data, &size)) {
    w->refused++;
    return;
  }
  uint16_t sequence = get16(data + 2);
  uint32_t timestamp = get32(data + 4);
  int level = data[0] == 0x90 && w->level_id ? data[17] : -1;
  w->heard_ns = now_ns;
  count(w, sequence, timestamp, now_ns);
  if (level >= 0 && (level & 0x7F) < w->level) w->level = level & 0x7F;
  if (w->records) keep(w, sequence, timestamp, data + at, size - at, now_ns);
  forward(w, data, at, size, sequence, timestamp, level, now_ns);
}

/* --- what ways.py calls ------------------------------------------------------------------------------- */

/* `unprotect_`, `protect_`: libsrtp's. Returns the size of a way, so that both sides mean the same one. */
int ways_begin(transform unprotect_, transform protect_) {
  unprotect = unprotect_;
  protect = protect_;
  make_crc_table();
  return ABI * 10000 + (int)sizeof(way);
}

/* The socket's way, or none (NULL); 0, or -1 when its number is too high for one. */
int ways_set(int fd, way *w) {
  if (fd < 0 || fd >= MAX_FD) return -1;
  ways[fd] = w;
  return 0;
}

/* Read what is there, one datagram a socket in turn, until nothing is left, something falls out, or about `budget` were
 * read. Returns how many; `*count`: of what fell out into `out`, EVENTS at most, in their order. */
int ways_look(int epoll_fd, int budget, fallen *out, int *count) {
  struct epoll_event ready[EVENTS];
  int read = 0, n;
  *count = 0;
  while (read < budget && *count == 0 && (n = epoll_wait(epoll_fd, ready, EVENTS, 0)) > 0) {
    read += n;
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd, at;
      fallen *one = out + *count;
      way *w = fd < MAX_FD ? ways[fd] : NULL;
      if (!w) {
        one->fd = fd;
        one->size = -1;
        ++*count;
        continue;
      }
      /* Read where it would fall out to: then nothing is copied. libsrtp wants the packet aligned. */
      struct sockaddr_in from;
      socklen_t length = sizeof from;
      ssize_t size = recvfrom(fd, one->data, DATAGRAM, 0, (struct sockaddr *)&from, &length);
      if (size < 0) continue; /* nothing there after all, or the ICMP error of an earlier packet */
      if (expected(w, one->data, (int)size, &from, &at)) {
        carry(w, one->data, (int)size, at);
        continue;
      }
      one->fd = fd;
      one->size = (int32_t)size;
      one->ip = from.sin_addr.s_addr;
      one->port = from.sin_port;
      ++*count;
    }
  }
  return read;
}

/* For tests and for telling how it is built. */
uint32_t ways_crc(const uint8_t *at, size_t size) { return crc32_of(at, size); }

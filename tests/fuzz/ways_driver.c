/* Datagrams at the compiled way of packets, under the sanitizers: ways_driver INPUTS SEED. Prints how many it was given,
 * how many it carried, and how many records they left; ends with a sanitizer's report when one byte is touched that it
 * should not be. Keys are stand-ins that, as libsrtp, take a tag off and put one on; everything else is as it is. */

#include "../../server/media/relay/ways.c"

#include <stdio.h>
#include <stdlib.h>
#include <arpa/inet.h>

static uint64_t state;

static uint32_t dice(uint32_t sides) { /* xorshift64* (Vigna 2016) */
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (uint32_t)((state * 2685821657736338717ull) >> 32) % sides;
}

static int tag = 10, mishaps;

static int take_tag(void *srtp, void *packet, int *size) {
  (void)srtp;
  (void)packet;
  if (dice(20) == 0) return 7; /* srtp_err_status_auth_fail */
  *size -= tag;
  return 0;
}

static int put_tag(void *srtp, void *packet, int *size) {
  (void)srtp;
  if (dice(50) == 0) return 9; /* srtp_err_status_replay_fail */
  memset((uint8_t *)packet + *size, 0xEE, SRTP_TRAILER);
  *size += tag;
  return 0;
}

/* A usual packet, bent in some places. */
static int datagram(const way *w, uint8_t *data) {
  static const uint8_t firsts[] = {0x80, 0x90, 0x90, 0x90, 0xA0, 0x81, 0xB0};
  for (int i = 0; i < DATAGRAM; i++) data[i] = (uint8_t)dice(256);
  data[0] = firsts[dice(sizeof firsts)];
  data[1] = (uint8_t)(w->payload_type | dice(2) << 7);
  put16(data + 2, (uint16_t)(w->newest_in + dice(8) - 2));
  put32(data + 8, w->ssrc);
  put16(data + 12, 0xBEDE);
  put16(data + 14, (uint16_t)dice(4));
  data[16] = (uint8_t)(w->level_id << 4 | dice(2));
  static const int sizes[] = {12, 16, 20, 64, 200, 1516, DATAGRAM + 1};
  int size = (int)dice((uint32_t)sizes[dice(sizeof sizes / sizeof *sizes)]);
  for (int bends = (int)dice(3); bends > 0; bends--) data[dice(24)] = (uint8_t)dice(256);
  return size;
}

int main(int count, char **given) {
  long inputs = count > 1 ? atol(given[1]) : 1000000, carried = 0, records = 0;
  state = count > 2 ? strtoull(given[2], NULL, 10) | 1 : 1;
  ways_begin(take_tag, put_tag);
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(9)};
  for (long done = 0; done < inputs;) {
    int room = 64 + (int)dice(4000), secure = (int)dice(2);
    tag = dice(2) ? 4 : TAG;
    way *w = calloc(1, sizeof *w);
    *w = (way){
        .rx = secure ? w : NULL, .tx = dice(2) ? w : NULL, .from_ip = here.sin_addr.s_addr, .from_port = here.sin_port,
        .to_ip = here.sin_addr.s_addr, .to_port = here.sin_port, .payload_type = 111, .out_type = 111, .ssrc = dice(1 << 30),
        .level_id = (int32_t)dice(4), .out_level_id = (int32_t)dice(4), .newest_in = dice(65536), .clock = 48000,
        .units_per_ns = 48e-6, .level = 127, .room = room, .records = dice(4) ? malloc((size_t)room) : NULL, .out_fd = -1,
    };
    for (int i = 0; i < 100; i++, done++) {
      uint8_t *whole = malloc(DATAGRAM), *exact;
      int size = datagram(w, whole), at = 0;
      if (size > DATAGRAM) size = DATAGRAM;
      /* A look reads nothing behind what came. */
      exact = malloc(size ? (size_t)size : 1);
      memcpy(exact, whole, (size_t)size);
      if (dice(30) == 0) here.sin_port ^= 1;
      int64_t before = w->size;
      if (expected(w, exact, size, &here, &at)) {
        carry(w, whole, size, at);
        carried++;
        if (w->size > room) mishaps++;
        if (w->size > before) records++;
      }
      here.sin_port = w->from_port;
      free(exact);
      free(whole);
    }
    free(w->records);
    free(w);
  }
  printf("%ld datagrams, %ld carried, %ld records\n", inputs, carried, records);
  return mishaps ? 1 : 0;
}

/* About how many bytes the changes of a lane take. They leave it at its head, so the estimates are kept in their order,
 * in chunks of some changes each: a lane whose large changes are gone is not taken for one of large changes. */
#include "lanes.h"
#include "parts.h"

#include <string.h>

#define CHUNK_CHANGES 32
#define CHUNK_BYTES (64 * 1024)

typedef struct Chunk {
    size_t count;
    uint64_t bytes;
} Chunk;

/* A place at the end: where chunks have left the front, or in more memory. */
static Chunk *new_chunk(Lane *lane) {
    size_t used = lane->end_chunk - lane->first_chunk;
    if (lane->end_chunk == lane->chunk_capacity && lane->first_chunk > lane->chunk_capacity / 2) {
        memmove(lane->chunks, lane->chunks + lane->first_chunk, sizeof(Chunk) * used);
        lane->first_chunk = 0;
        lane->end_chunk = used;
    } else if (lane->end_chunk == lane->chunk_capacity) {
        lane->chunk_capacity = lane->chunk_capacity > 0 ? lane->chunk_capacity * 2 : 8;
        lane->chunks = RedisModule_Realloc(lane->chunks, sizeof(Chunk) * lane->chunk_capacity);
    }
    Chunk *chunk = &lane->chunks[lane->end_chunk++];
    *chunk = (Chunk){0, 0};
    return chunk;
}

void bytes_add(Lane *lane, size_t count, uint64_t bytes) {
    Chunk *last = lane->end_chunk > lane->first_chunk ? &lane->chunks[lane->end_chunk - 1] : NULL;
    if (last == NULL || last->count >= CHUNK_CHANGES || last->bytes >= CHUNK_BYTES) last = new_chunk(lane);
    last->count += count;
    last->bytes += bytes;
    lane->bytes += bytes;
}

void bytes_take(Lane *lane, size_t count) {
    while (count > 0 && lane->first_chunk < lane->end_chunk) {
        Chunk *chunk = &lane->chunks[lane->first_chunk];
        bool whole = chunk->count <= count;
        size_t taken = whole ? chunk->count : count;
        uint64_t bytes = whole ? chunk->bytes : (uint64_t)((double)chunk->bytes * (double)taken / (double)chunk->count);
        chunk->count -= taken;
        chunk->bytes -= bytes;
        lane->bytes -= bytes;
        count -= taken;
        lane->first_chunk += whole;
    }
    if (lane->first_chunk == lane->end_chunk) lane->first_chunk = lane->end_chunk = 0;
}

void bytes_free(Lane *lane) {
    if (lane->chunks != NULL) RedisModule_Free(lane->chunks);
    lane->chunks = NULL;
}

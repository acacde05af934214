/* Keys whose row does not exist, remembered for the short time that the function says. One place for each of a fixed
 * number of hashes: a key that takes the place of another one only costs that one another look. */
#include "misses.h"

#include <string.h>

#include "workers/workers.h"

#define PLACES 16384
#define LONGEST_KEY 1024

typedef struct {
    RedisModuleString *key;
    int db;
    long long until_ms; /* of the monotonic clock */
} Missing;

static Missing *places;

static Missing *place_of(Slice key) { return &places[key_hash(key) % PLACES]; }

static void clear(Missing *missing) {
    if (missing->key != NULL) RedisModule_FreeString(NULL, missing->key);
    *missing = (Missing){0};
}

static bool is_of(const Missing *missing, int db, Slice key) {
    return missing->key != NULL && missing->db == db && slices_equal(string_slice(missing->key), key);
}

void missing_remember(int db, RedisModuleString *key, long long ms) {
    Slice name = string_slice(key);
    if (ms == 0 || name.len > LONGEST_KEY) return;
    if (places == NULL) places = RedisModule_Calloc(PLACES, sizeof(Missing));
    Missing *missing = place_of(name);
    clear(missing);
    *missing = (Missing){RedisModule_CreateString(NULL, name.bytes, name.len), db, workers_clock_ms() + ms};
}

bool missing_knows(int db, Slice key) {
    return places != NULL && is_of(place_of(key), db, key) && place_of(key)->until_ms > workers_clock_ms();
}

void missing_forget(int db, Slice key) {
    if (places != NULL && is_of(place_of(key), db, key)) clear(place_of(key));
}

void missing_forget_all(void) {
    for (int i = 0; places != NULL && i < PLACES; i++) clear(&places[i]);
    if (places != NULL) RedisModule_Free(places);
    places = NULL;
}

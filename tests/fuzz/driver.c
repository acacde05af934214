/* In place of libFuzzer where the compiler has none: inputs made of others by chance, for so many seconds of CPU.
 *
 * Usage: driver SECONDS SEED FILE… */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_BYTES 4096

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

typedef struct {
    unsigned char bytes[MOST_BYTES];
    size_t size;
} Input;

static unsigned long long state;

static size_t below(size_t limit) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(state >> 33) % limit;
}

static void read_input(Input *input, const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    input->size = fread(input->bytes, 1, MOST_BYTES, file);
    fclose(file);
}

/* One of: a byte that is another one, a byte less, a part doubled, a part of another input put in. */
static void change(Input *input, const Input *other) {
    size_t at = input->size > 0 ? below(input->size) : 0, kind = below(4);
    if (kind == 0 && input->size > 0) {
        input->bytes[at] = (unsigned char)below(256);
    } else if (kind == 1 && input->size > 0) {
        memmove(input->bytes + at, input->bytes + at + 1, --input->size - at);
    } else {
        const Input source = kind == 2 ? *input : *other;
        size_t from = source.size > 0 ? below(source.size) : 0,
               size = source.size > from ? below(source.size - from) + 1 : 0;
        if (input->size + size > MOST_BYTES) return;
        memmove(input->bytes + at + size, input->bytes + at, input->size - at);
        memcpy(input->bytes + at, source.bytes + from, size);
        input->size += size;
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int count = argc - 3;
    Input *inputs = calloc((size_t)count, sizeof(Input)), *input = malloc(sizeof(Input));
    double seconds = atof(argv[1]);
    state = strtoull(argv[2], NULL, 10);
    for (int i = 0; i < count; i++) read_input(&inputs[i], argv[i + 3]);
    LLVMFuzzerInitialize(&argc, &argv);
    unsigned long long runs = 0;
    for (; (double)clock() / CLOCKS_PER_SEC < seconds; runs++) {
        *input = inputs[below((size_t)count)];
        for (size_t left = below(8); left > 0; left--) change(input, &inputs[below((size_t)count)]);
        LLVMFuzzerTestOneInput(input->bytes, input->size);
    }
    printf("%llu inputs\n", runs);
    free(input);
    free(inputs);
    return 0;
}

/* Classifies an image with a file that takes images of any size.
 *
 *   selfcls-cli export RUN --out photos.onnx --input any
 *   cc -o classify classify.c -I INCLUDE -ldl
 *   ORT_DYLIB_PATH=libonnxruntime.so.1.31.1 ./classify photos.onnx photo.ppm
 *
 * INCLUDE is the folder with ONNX Runtime's onnxruntime_c_api.h; the library may be newer than the header, not older. It is
 * opened when the program runs, so that a machine without it gets a sentence. Image files are the application's business:
 * here they are binary PPM, which `convert photo.jpg photo.ppm` makes.
 */

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnxruntime_c_api.h"

static const OrtApi *ort;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "error: %s: %s\n", what, why);
    exit(1);
}

/* Every call gives NULL, or what went wrong. */
static void check(OrtStatus *status) {
    if (status)
        fail("ONNX Runtime", ort->GetErrorMessage(status));
}

static void open_library(void) {
    const char *path = getenv("ORT_DYLIB_PATH");
    void *library = dlopen(path && *path ? path : "libonnxruntime.so", RTLD_NOW);
    if (!library)
        fail("no ONNX Runtime (name its library in ORT_DYLIB_PATH)", dlerror());
    const OrtApiBase *(*get)(void);
    *(void **)&get = dlsym(library, "OrtGetApiBase");
    if (!get)
        fail("this is not ONNX Runtime", dlerror());
    ort = get()->GetApi(ORT_API_VERSION);
    if (!ort)
        fail("ONNX Runtime is older than the header that this was compiled with", get()->GetVersionString());
}

/* The pixels of a binary PPM of 8 bits, which are the tensor [1, height, width, 3] already. */
static uint8_t *read_image(const char *path, int64_t shape[4]) {
    FILE *file = fopen(path, "rb");
    unsigned width, height, most;
    if (!file)
        fail(path, "cannot be opened");
    if (fscanf(file, "P6 %5u %5u %3u", &width, &height, &most) != 3 || !width || !height || most != 255)
        fail(path, "is not a binary PPM of 8 bits without comments");
    fgetc(file);
    size_t size = (size_t)width * height * 3;
    uint8_t *pixels = malloc(size);
    if (!pixels || fread(pixels, 1, size, file) != size)
        fail(path, "is not complete");
    fclose(file);
    memcpy(shape, (int64_t[]){1, height, width, 3}, 4 * sizeof *shape);
    return pixels;
}

/* The file says in its metadata of which version it is and what it takes; see docs/onnx.md. */
static void check_input(const char *path, OrtSession *session) {
    OrtModelMetadata *metadata;
    OrtAllocator *allocator;
    char *format, *input;
    check(ort->SessionGetModelMetadata(session, &metadata));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->ModelMetadataLookupCustomMetadataMap(metadata, allocator, "selfcls.format", &format));
    if (!format || (strcmp(format, "1") && strcmp(format, "2")))
        fail(path, "is not a file of selfcls-cli, or of a version that is newer than this program");
    check(ort->ModelMetadataLookupCustomMetadataMap(metadata, allocator, "selfcls.input", &input));
    if (!input || strcmp(input, "any"))
        fail(path, "does not take images of any size; export it with --input any");
    check(ort->AllocatorFree(allocator, format));
    check(ort->AllocatorFree(allocator, input));
    ort->ReleaseModelMetadata(metadata);
}

int main(int count, char **arguments) {
    if (count != 3)
        fail("usage", "classify MODEL.onnx IMAGE.ppm");
    open_library();

    OrtEnv *environment;
    OrtSessionOptions *options;
    OrtSession *session;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "classify", &environment));
    check(ort->CreateSessionOptions(&options));
    check(ort->CreateSession(environment, arguments[1], options, &session));
    check_input(arguments[1], session);

    int64_t shape[4];
    uint8_t *pixels = read_image(arguments[2], shape);
    OrtMemoryInfo *memory;
    OrtValue *image, *probabilities = NULL;
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(ort->CreateTensorWithDataAsOrtValue(memory, pixels, (size_t)(shape[1] * shape[2] * 3), shape, 4,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &image));
    check(ort->Run(session, NULL, (const char *[]){"image"}, (const OrtValue *const *)&image, 1,
                   (const char *[]){"probabilities"}, 1, &probabilities));

    OrtTensorTypeAndShapeInfo *info;
    size_t classes, best = 0;
    float *values;
    check(ort->GetTensorTypeAndShape(probabilities, &info));
    check(ort->GetTensorShapeElementCount(info, &classes));
    check(ort->GetTensorMutableData(probabilities, (void **)&values));
    for (size_t class = 1; class < classes; class++)
        if (values[class] > values[best])
            best = class;
    printf("{\"class\": %zu, \"probability\": %.6f}\n", best, values[best]);

    ort->ReleaseTensorTypeAndShapeInfo(info);
    ort->ReleaseValue(probabilities);
    ort->ReleaseValue(image);
    ort->ReleaseMemoryInfo(memory);
    free(pixels);
    ort->ReleaseSession(session);
    ort->ReleaseSessionOptions(options);
    ort->ReleaseEnv(environment);
    return 0;
}

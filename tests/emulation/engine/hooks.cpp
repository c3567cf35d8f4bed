// What the compiler calls in code built with -fsanitize=thread,alignment,bounds-strict. The
// program is linked with these functions in place of the sanitizers' own libraries.
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>

#include "tests/emulation/engine/scheduler.hpp"

using seqvae::emulation::Fault;
using seqvae::emulation::running;

#define SEQVAE_PLACE reinterpret_cast<std::uintptr_t>(__builtin_return_address(0))
#define SEQVAE_ACCESS(name, bytes, write)                                                          \
  void name(void* address) {                                                                       \
    if (running == nullptr) return;                                                                \
    running->access(reinterpret_cast<std::uintptr_t>(address), bytes, write, false, SEQVAE_PLACE); \
  }
#define SEQVAE_ACCESSES(bytes)                                       \
  SEQVAE_ACCESS(__tsan_read##bytes, bytes, false)                    \
  SEQVAE_ACCESS(__tsan_write##bytes, bytes, true)                    \
  SEQVAE_ACCESS(__tsan_unaligned_read##bytes, bytes, false)          \
  SEQVAE_ACCESS(__tsan_unaligned_write##bytes, bytes, true)          \
  SEQVAE_ACCESS(__tsan_volatile_read##bytes, bytes, false)           \
  SEQVAE_ACCESS(__tsan_volatile_write##bytes, bytes, true)           \
  SEQVAE_ACCESS(__tsan_unaligned_volatile_read##bytes, bytes, false) \
  SEQVAE_ACCESS(__tsan_unaligned_volatile_write##bytes, bytes, true)

extern "C" {

SEQVAE_ACCESSES(1)
SEQVAE_ACCESSES(2)
SEQVAE_ACCESSES(4)
SEQVAE_ACCESSES(8)
SEQVAE_ACCESSES(16)

void __tsan_read_range(void* address, unsigned long bytes) {
  if (running == nullptr || bytes == 0) return;
  running->access(reinterpret_cast<std::uintptr_t>(address), bytes, false, false, SEQVAE_PLACE);
}
void __tsan_write_range(void* address, unsigned long bytes) {
  if (running == nullptr || bytes == 0) return;
  running->access(reinterpret_cast<std::uintptr_t>(address), bytes, true, false, SEQVAE_PLACE);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

// The layouts that the compiler's undefined-behaviour checks pass, of which the place is used.
struct SourcePlace {
  const char* file;
  std::uint32_t line, column;
};
struct OutOfBounds {
  SourcePlace place;
};
struct TypeMismatch {
  SourcePlace place;
  const void* type;
  unsigned char log_alignment, kind;
};

void __ubsan_handle_out_of_bounds_abort(OutOfBounds* data, std::uintptr_t index) {
  const auto what = fmt::format("{}:{}: index {} beyond the array's end", data->place.file,
                                data->place.line, static_cast<std::intptr_t>(index));
  if (running == nullptr) fmt::print(stderr, "{}\n", what), std::abort();
  running->fail(Fault::out_of_bounds, what, SEQVAE_PLACE);
}
void __ubsan_handle_type_mismatch_v1_abort(TypeMismatch* data, std::uintptr_t address) {
  const auto what = fmt::format("{}:{}: address {:#x} is not aligned to {} bytes", data->place.file,
                                data->place.line, address, 1u << data->log_alignment);
  if (running == nullptr) fmt::print(stderr, "{}\n", what), std::abort();
  running->fail(Fault::misaligned, what, SEQVAE_PLACE);
}

}  // extern "C"

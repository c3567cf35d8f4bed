// oneDNN on the calling thread alone.
//
// Debian builds oneDNN with OpenMP: each primitive would start a team of threads. A team of one is
// no team (oneDNN then calls the body at once), and the size of a team is a setting of the
// calling thread, so SingleThreaded sets it to one and puts the caller's back. The OpenMP runtime
// is the one that oneDNN itself has loaded, hence looked up by name, not linked.
#pragma once
#include <dlfcn.h>

#include <dnnl.hpp>

namespace seqvae::cpu {

class SingleThreaded {
 public:
  SingleThreaded() : before_(max_threads != nullptr ? max_threads() : 1) {
    if (before_ != 1) set_threads(1);
  }
  ~SingleThreaded() {
    if (before_ != 1) set_threads(before_);
  }
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  template <class Function>
  static Function* find(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
  }
  static inline int (*const max_threads)() = find<int()>("omp_get_max_threads");
  static inline void (*const set_threads)(int) = find<void(int)>("omp_set_num_threads");
  int before_;
};

inline const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

inline dnnl::stream& stream() {
  thread_local dnnl::stream own(engine());
  return own;
}

}  // namespace seqvae::cpu

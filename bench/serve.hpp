// A benchmark program that answers the protocol of bench/peers/README.md.
#pragma once
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "seqvae/io/json.hpp"

namespace seqvae::bench {

/// What a program times, its answers to the protocol's commands.
class Work {
 public:
  virtual ~Work() = default;
  virtual io::Json about() const = 0;
  virtual io::Json loss() = 0;
  virtual io::Json run() = 0;
  virtual io::Json shapes() { return io::Json::object(); }  ///< empty: a shape costs nothing
};

template <class Call>
double seconds_of(const Call& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// The main function of such a program: --case FILE --threads N.
inline int serve(int argc, char** argv,
                 const std::function<std::unique_ptr<Work>(const std::string&, int)>& make) {
  std::string file;
  int threads = 0;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string(argv[i]) == "--case") file = argv[i + 1];
    if (std::string(argv[i]) == "--threads") threads = std::atoi(argv[i + 1]);
  }
  if (file.empty()) {
    std::cerr << "usage: " << argv[0] << " --case FILE --threads N --serve\n";
    return 2;
  }
  try {
    const std::unique_ptr<Work> work = make(file, threads);
    std::cout << work->about().dump() << std::endl;
    for (std::string command; std::getline(std::cin, command) && command != "quit";) {
      const io::Json answer = command == "loss"     ? work->loss()
                              : command == "run"    ? work->run()
                              : command == "shapes" ? work->shapes()
                                                    : io::Json{{"error", "no command " + command}};
      std::cout << answer.dump() << std::endl;
    }
  } catch (const std::exception& error) {
    std::cout << io::Json{{"error", error.what()}}.dump() << std::endl;
    return 1;
  }
  return 0;
}

}  // namespace seqvae::bench

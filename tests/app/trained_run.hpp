// A run trained on a tiny model, made once a test program, and the words of commands on it.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "seqvae/io/json.hpp"
#include "tests/app/program.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {

using Words = std::vector<std::string>;

inline Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// One trained run, made once: standardized pendulum, 4 test sequences of 12 steps of 2 columns.
class Run : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    ASSERT_EQ(run({"data", "make", "tracking", "--out", file("d.npz"), "--train", "8", "--valid",
                   "4", "--test", "4", "--steps", "12", "--quiet"})
                  .status,
              0);
    trained_ = run(training("run") + Words{"--epochs", "3", "--json"});
    ASSERT_EQ(trained_.status, 0) << trained_.err;
    D_ = io::read_json(file("run/config.json")).at("data").at("x_width").get<std::int64_t>();
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static std::string file(const std::string& name) { return (*folder_ / name).string(); }
  static Words training(const std::string& name) {
    return {"train",
            "--model",
            "vrnn",
            "--data",
            file("d.npz"),
            "--out",
            file(name),
            "--set",
            "configuration.z=3",
            "--set",
            "configuration.hidden=5",
            "--set",
            "train.batch_size=4",
            "--standardize",
            "--device",
            "cpu",
            "--threads",
            "1",
            "--set",
            "train.validate_every=500"};
  }
  static Words with_data(const std::string& command) {
    return {command, file("run"), "--data", file("d.npz"), "--device", "cpu", "--quiet"};
  }

  inline static std::unique_ptr<TemporaryFolder> folder_;
  inline static Outcome trained_;
  inline static std::int64_t D_ = 0;
};

}  // namespace seqvae::test

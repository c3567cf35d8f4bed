// The exact model with --device cuda beside --device cpu: every command.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "seqvae/io/file.hpp"
#include "seqvae/io/npy.hpp"
#include "tests/app/program.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {
namespace {

using testing::HasSubstr;
using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class LgssmOnCuda : public testing::Test {
 protected:
  void SetUp() override {  // ragged, with missing values and a control
    io::NamedArrays arrays;
    std::vector<double> values, controls, lengths;
    for (int i = 0; i < 11; ++i) {
      lengths.push_back(3 + (i * 5) % 19);
      for (int t = 0; t < lengths.back(); ++t) {
        values.push_back((t + i) % 4 == 1 ? std::nan("") : std::sin(0.7 * t + i));
        values.push_back(std::cos(0.3 * t * (i + 1)) + 0.2 * (t % 3));
        controls.push_back(t % 3);
      }
    }
    const auto rows = static_cast<std::int64_t>(controls.size());
    arrays["values"] = io::Array::of({rows, 2}, values);
    arrays["controls"] = io::Array::of({rows, 1}, controls);
    arrays["lengths"] = io::Array::of({static_cast<std::int64_t>(lengths.size())},
                                      std::vector<std::int64_t>(lengths.begin(), lengths.end()));
    io::write_npz(file("d.npz"), arrays);
  }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }

  Words train(const std::string& device, const std::string& method, const std::string& name) {
    return {"train",       "--model",
            "lgssm",       "--data",
            file("d.npz"), "--out",
            file(name),    "--max-steps",
            "3",           "--threads",
            "1",           "--quiet",
            "--device",    device,
            "--set",       "configuration.states=2",
            "--set",       "train.method=" + method};
  }
  std::vector<io::Json> lines(const std::string& name) const {
    std::vector<io::Json> all;
    std::ifstream stream(file(name + "/metrics.jsonl"));
    for (std::string line; std::getline(stream, line);) all.push_back(io::parse_json(line, name));
    return all;
  }

  /// The command's --out file from both devices: the same arrays to rounding.
  void expect_same(const Words& words) {
    io::NamedArrays found[2];
    for (const int cuda : {0, 1}) {
      const std::string out = file(cuda ? "cuda.npz" : "cpu.npz");
      const Outcome outcome =
          run(words + Words{"--out", out, "--quiet", "--device", cuda ? "cuda" : "cpu"});
      ASSERT_EQ(outcome.status, 0) << words[0] << ": " << outcome.err;
      found[cuda] = io::read_npz(out);
    }
    ASSERT_EQ(found[0].size(), found[1].size());
    for (const auto& [name, array] : found[0]) {
      ASSERT_TRUE(found[1].contains(name)) << name;
      const std::vector<double> cpu = array.to_double(), cuda = found[1].at(name).to_double();
      ASSERT_EQ(cpu.size(), cuda.size()) << name;
      for (std::size_t i = 0; i < cpu.size(); ++i) {
        if (std::isnan(cpu[i]) && std::isnan(cuda[i])) continue;  // filtered while nothing is known
        ASSERT_LE(std::abs(cpu[i] - cuda[i]), 1e-9 * (1 + std::abs(cpu[i])))
            << words[0] << ": " << name << "[" << i << "]";
      }
    }
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(LgssmOnCuda, FitsAsOnTheCpu) {
  for (const std::string method : {"gradient", "em"}) {
    for (const std::string device : {"cpu", "cuda"}) {
      const Outcome outcome = run(train(device, method, method + "_" + device));
      ASSERT_EQ(outcome.status, 0) << outcome.err;
    }
    const std::vector<io::Json> cpu = lines(method + "_cpu"), cuda = lines(method + "_cuda");
    ASSERT_EQ(cpu.size(), 3u);
    ASSERT_EQ(cuda.size(), 3u);
    for (std::size_t i = 0; i < cpu.size(); ++i) {
      for (const char* key : {"nats_per_step", "gradient_norm"}) {
        const double expected = cpu[i].at(key).get<double>(), found = cuda[i].at(key).get<double>();
        EXPECT_LE(std::abs(found - expected), 1e-8 * (1 + std::abs(expected)))
            << method << ": " << key << " of line " << i;
      }
    }
  }
}

TEST_F(LgssmOnCuda, ResumesToTheBit) {
  ASSERT_EQ(run(train("cuda", "gradient", "whole")).status, 0);
  const Words stopped = train("cuda", "gradient", "stopped");
  ASSERT_EQ(run(stopped + Words{"--time-limit", "0.001"}).status, 0);
  EXPECT_NE(io::read_file(file("stopped/last.safetensors")),
            io::read_file(file("whole/last.safetensors")));
  ASSERT_EQ(run(stopped + Words{"--resume"}).status, 0);
  EXPECT_EQ(io::read_file(file("stopped/last.safetensors")),
            io::read_file(file("whole/last.safetensors")));
}

TEST_F(LgssmOnCuda, AnswersAsOnTheCpu) {
  ASSERT_EQ(run(train("cpu", "gradient", "run")).status, 0);
  io::Json reports[2];
  for (const int cuda : {0, 1}) {
    const Outcome outcome = run({"evaluate", file("run"), "--data", file("d.npz"), "--json",
                                 "--device", cuda ? "cuda" : "cpu"});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    reports[cuda] = outcome.json();
  }
  const auto same = [](const io::Json& cpu, const io::Json& cuda) {
    EXPECT_NEAR(cpu.get<double>(), cuda.get<double>(), 1e-9 * (1 + std::abs(cpu.get<double>())));
  };
  same(reports[0].at("log_likelihood"), reports[1].at("log_likelihood"));
  same(reports[0].at("residuals").at("nis"), reports[1].at("residuals").at("nis"));
  const Words data = {file("run"), "--data", file("d.npz"), "--seed", "3"};
  expect_same(Words{"infer"} + data);
  expect_same(Words{"impute"} + data + Words{"--samples", "4"});
}

TEST_F(LgssmOnCuda, ForecastsAndGeneratesAsOnTheCpu) {
  io::NamedArrays arrays = io::read_npz(file("d.npz"));
  arrays.erase("controls");  // whose values to come a file would have to give
  io::write_npz(file("d.npz"), arrays);
  ASSERT_EQ(run(train("cpu", "gradient", "run")).status, 0);
  const Words draws = {"--seed", "3", "--samples", "4"};
  expect_same(Words{"forecast", file("run"), "--data", file("d.npz"), "--horizon", "5"} + draws);
  expect_same(Words{"generate", file("run"), "--steps", "7", "--count", "3", "--seed", "3"});
}

TEST_F(LgssmOnCuda, RefusesWhatTheDeviceDoesNotTake) {
  std::ofstream(file("d.csv")) << "a\n1\n2\n3\n4\n5\n6\n";
  const Outcome outcome = run({"train", "--model", "lgssm", "--data", file("d.csv"), "--out",
                               file("run"), "--device", "cuda"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.err, HasSubstr("model.diffuse is given, must be null on a CUDA device"));
}

}  // namespace
}  // namespace seqvae::test

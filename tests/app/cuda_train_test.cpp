// The program with --device cuda beside the program with --device cpu.
#include <gmock/gmock.h>

#include <algorithm>
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

struct Named {
  std::string model;
  Words settings;
};

class OnCuda : public testing::TestWithParam<Named> {
 protected:
  void SetUp() override {
    io::NamedArrays arrays;
    for (const std::string part : {"train", "valid"}) {  // ragged, with missing values
      std::vector<double> values, lengths;
      for (int i = 0; i < (part == "train" ? 13 : 4); ++i) {
        lengths.push_back(3 + (i * 5) % 19);
        for (int t = 0; t < lengths.back(); ++t) {
          values.push_back((t + i) % 4 == 1 ? std::nan("") : std::sin(0.7 * t + i));
          values.push_back(std::cos(0.3 * t * (i + 1)));
        }
      }
      arrays[part + "_values"] =
          io::Array::of({static_cast<std::int64_t>(values.size()) / 2, 2}, values);
      arrays[part + "_lengths"] =
          io::Array::of({static_cast<std::int64_t>(lengths.size())},
                        std::vector<std::int64_t>(lengths.begin(), lengths.end()));
    }
    io::write_npz(file("d.npz"), arrays);
  }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }

  Outcome train(const std::string& device, const Words& more = {}) const {
    Words words = {"train",       "--model", GetParam().model, "--data", file("d.npz"),
                   "--max-steps", "3",       "--threads",      "1",      "--seed",
                   "5",           "--json",  "--device",       device};
    if (std::find(more.begin(), more.end(), "--out") == more.end()) {
      words.push_back("--out"), words.push_back(file(device));
    }
    for (const char* setting :
         {"train.batch_size=5", "train.validate_every=1", "train.hide=0.1", "train.accumulate=2"}) {
      words.push_back("--set"), words.push_back(setting);
    }
    for (const std::string& setting : GetParam().settings) {
      words.push_back("--set"), words.push_back(setting);
    }
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }

  std::vector<io::Json> lines(const std::string& device) const {
    std::vector<io::Json> all;
    std::ifstream stream(file(device + "/metrics.jsonl"));
    for (std::string line; std::getline(stream, line);) all.push_back(io::parse_json(line, device));
    return all;
  }

 private:
  TemporaryFolder folder_;
};

TEST_P(OnCuda, TrainsAndEvaluatesAsOnTheCpu) {
  for (const char* device : {"cpu", "cuda"}) {
    const Outcome outcome = train(device);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
  const std::vector<io::Json> cpu = lines("cpu"), cuda = lines("cuda");
  ASSERT_EQ(cuda.size(), cpu.size());
  ASSERT_GE(cpu.size(), 3u);
  for (std::size_t i = 0; i < cpu.size(); ++i) {
    for (const char* key :
         {"nats_per_step", "objective", "reconstruction", "kl", "gradient_norm"}) {
      const double expected = cpu[i].at(key).get<double>(), found = cuda[i].at(key).get<double>();
      EXPECT_LE(std::abs(found - expected), 2e-5 * (1 + std::abs(expected)))
          << key << " of line " << i;
    }
  }
  std::vector<double> bounds;
  for (const char* device : {"cpu", "cuda"}) {
    const Outcome outcome = run({"evaluate", file("cuda"), "--data", file("d.npz"), "--device",
                                 device, "--bound", "iwae", "--samples", "5", "--json"});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    bounds.push_back(outcome.json().at("nats_per_step").get<double>());
  }
  EXPECT_LE(std::abs(bounds[1] - bounds[0]), 2e-5 * (1 + std::abs(bounds[0])));
}

TEST_P(OnCuda, ResumesToTheBit) {
  ASSERT_EQ(train("cuda").status, 0);
  ASSERT_EQ(train("cuda", {"--out", file("stopped"), "--time-limit", "0.001"}).status, 0);
  EXPECT_NE(io::read_file(file("stopped/last.safetensors")),
            io::read_file(file("cuda/last.safetensors")));
  ASSERT_EQ(train("cuda", {"--out", file("stopped"), "--resume"}).status, 0);
  EXPECT_EQ(io::read_file(file("stopped/last.safetensors")),
            io::read_file(file("cuda/last.safetensors")));
}

INSTANTIATE_TEST_SUITE_P(
    Models, OnCuda,
    testing::Values(Named{"vrnn", {"configuration.z=3", "configuration.hidden=5"}},
                    Named{"dmm",
                          {"configuration.z=3", "configuration.emission=4",
                           "configuration.transition=4", "configuration.rnn=6"}},
                    Named{"rvae",
                          {"configuration.z=3", "configuration.encoder=5",
                           "configuration.decoder=4", "configuration.emission=4"}}),
    [](const auto& info) { return info.param.model; });

TEST(Cuda, RefusesWhatHasNoKernel) {
  const TemporaryFolder folder;
  std::ofstream(folder / "d.csv") << "a\n1\n2\n3\n4\n5\n6\n";
  const auto refused = [&](const Words& more) {
    Words words = {"train", "--data", (folder / "d.csv").string(), "--columns",
                   "a",     "--out",  (folder / "run").string(),   "--device",
                   "cuda"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 2);
    return outcome.err;
  };
  EXPECT_THAT(refused({"--model", "vrnn", "--precision", "float64"}),
              HasSubstr("device = cuda, must be cpu: kernels are for float32"));
}

}  // namespace
}  // namespace seqvae::test

// Runs that stop and go on: by a signal, a time limit, at their end; and what --resume refuses.
#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>

#include "seqvae/io/safetensors.hpp"
#include "tests/app/trained_run.hpp"

namespace seqvae::test {
namespace {

using testing::HasSubstr;

TEST_F(Run, ResumeRefusesAStateThatIsNotOne) {
  const std::filesystem::path copy = file("edited");
  std::filesystem::copy(file("run"), copy);
  const io::Safetensors whole = io::read_safetensors(copy / "last.safetensors");
  const io::Json state = io::parse_json(whole.metadata.at("state"), "state");
  const auto refused = [&](const io::Json& edited, const std::string& rule) {
    io::Safetensors contents = whole;
    contents.metadata["state"] = edited.dump();
    io::write_safetensors(copy / "last.safetensors", contents);
    const Outcome outcome = run(training("edited") + Words{"--epochs", "3", "--resume"});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_EQ(outcome.err, "seqvae: " + file("edited/last.safetensors") + ": " + rule + "\n");
  };
  for (const std::string key : {"window", "best", "step"}) {
    io::Json edited = state;
    edited.erase(key);
    refused(edited, "state." + key + ": is missing");
  }
  io::Json edited = state;
  edited["window"] = {1, 2};
  refused(edited, "state.window: has 2 numbers, must have 5");
  io::Safetensors contents = whole;
  io::Array& moments = contents.tensors.at("optimizer.m");
  std::vector<float> values(static_cast<std::size_t>(moments.shape.at(0)), 0.0f);
  values.back() = std::nanf("");
  moments = io::Array::of<float>(moments.shape, values);
  io::write_safetensors(copy / "last.safetensors", contents);
  const Outcome outcome = run(training("edited") + Words{"--epochs", "3", "--resume"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "seqvae: " + file("edited/last.safetensors") +
                             ": optimizer.m: has a value that is not finite\n");
}

TEST_F(Run, ResumeGoesOnAfterASignalToTheSameBytes) {
  const Words words = training("stopped") + Words{"--max-steps", "3000", "--json"};
  const Outcome stopped = run_and_signal(words, SIGTERM, file("stopped/metrics.jsonl"));
  EXPECT_EQ(stopped.status, 143) << stopped.err;
  EXPECT_EQ(stopped.err, "seqvae: terminated\n");
  EXPECT_EQ(stopped.json().at("stop"), "interrupted");
  EXPECT_LT(stopped.json().at("step"), 3000);
  const Outcome resumed = run(words + Words{"--resume"});
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  ASSERT_EQ(run(training("whole") + Words{"--max-steps", "3000", "--quiet"}).status, 0);
  for (const char* name : {"/last.safetensors", "/best.safetensors"}) {
    EXPECT_EQ(io::read_file(file("stopped") + name), io::read_file(file("whole") + name)) << name;
  }
}

TEST_F(Run, ResumeOfAFinishedRunChangesNothing) {
  const std::string metrics = io::read_file(file("run/metrics.jsonl"));
  const Outcome outcome = run(training("run") + Words{"--epochs", "3", "--json", "--resume"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(io::read_file(file("run/metrics.jsonl")), metrics);  // seconds too
  for (const char* key : {"step", "train", "valid"}) {
    EXPECT_EQ(outcome.json().at(key), trained_.json().at(key)) << key;
  }
}

TEST_F(Run, ResumeRefusesWhatContradictsTheRun) {
  const Outcome outcome =
      run(training("run") + Words{"--epochs", "3", "--resume", "--set", "configuration.z=4"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "seqvae: --set: configuration.z: is 4, the run to resume has 3 (" +
                             file("run/config.json") + ")\n");
  const Outcome there = run(training("run") + Words{"--epochs", "3"});
  EXPECT_EQ(there.status, 2);
  EXPECT_THAT(there.err, HasSubstr("config.json: a run is here already; --resume goes on with it"));
}

TEST_F(Run, TimeLimitCheckpointsAndEnds) {
  const Outcome outcome = run(training("limited") +
                              Words{"--max-steps", "1000000000", "--time-limit", "0.2s", "--json"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.json().at("stop"), "time_limit");
  EXPECT_TRUE(std::filesystem::exists(file("limited/last.safetensors")));
}

}  // namespace
}  // namespace seqvae::test

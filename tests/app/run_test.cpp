// From data to a run and what is done with it, on a tiny model: files, keys, shapes, statuses. On
// the CPU; cuda_train_test.cpp has the devices.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <csignal>

#include "seqvae/io/npy.hpp"
#include "seqvae/io/safetensors.hpp"
#include "tests/app/trained_run.hpp"

namespace seqvae::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> keys_of(const io::Json& json) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  return keys;
}

TEST_F(Run, TrainReportsAndWritesTheResolvedConfiguration) {
  const io::Json report = trained_.json();
  EXPECT_EQ(report.at("stop"), "finished");
  EXPECT_EQ(report.at("step"), 6);
  EXPECT_TRUE(std::isfinite(report.at("valid").at("nats_per_step").get<double>()));
  EXPECT_THAT(trained_.err, IsEmpty());
  EXPECT_THAT(files_in(file("run")),
              ElementsAre("best.safetensors", "config.json", "last.safetensors", "metrics.jsonl"));
  const io::Json config = io::read_json(file("run/config.json"));
  EXPECT_THAT(keys_of(config), ElementsAre("model", "configuration", "data", "train", "precision",
                                           "scaler", "version"));
  EXPECT_EQ(config.at("configuration").at("z"), 3);
  EXPECT_EQ(config.at("train").at("epochs"), 3);
  EXPECT_EQ(config.at("data").at("emission"), "gaussian");
  EXPECT_EQ(config.at("scaler").at("mean").size(), static_cast<std::size_t>(D_));
}

TEST_F(Run, EvaluateHasExactlyItsKeys) {
  const Outcome outcome =
      run(with_data("evaluate") + Words{"--bound", "iwae", "--samples", "7", "--json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const io::Json report = outcome.json();
  EXPECT_THAT(keys_of(report),
              ElementsAre("model", "bound", "samples", "log_likelihood", "standard_error",
                          "nats_per_step", "steps", "sequences", "observed"));
  EXPECT_EQ(report.at("bound"), "iwae");
  EXPECT_EQ(report.at("samples"), 7);
  EXPECT_EQ(report.at("steps"), 48);
  EXPECT_EQ(report.at("sequences"), 4);
  EXPECT_EQ(report.at("observed"), 48 * D_);
  EXPECT_DOUBLE_EQ(report.at("nats_per_step").get<double>(),
                   -report.at("log_likelihood").get<double>() / 48);
}

// The same values in units a thousand times smaller: each observed value's log density falls by
// log 1000, and nothing else changes.
TEST_F(Run, BoundsAreInTheFilesUnits) {
  io::NamedArrays arrays = io::read_npz(file("d.npz"));
  for (auto& [name, array] : arrays) {
    if (!name.ends_with("values")) continue;
    std::vector<double> values = array.to_double();
    for (double& value : values) value *= 1000;
    array = io::Array::of(array.shape, values);
  }
  io::write_npz(file("thousand.npz"), arrays);
  Words words = training("thousand") + Words{"--epochs", "3", "--quiet"};
  *std::find(words.begin(), words.end(), file("d.npz")) = file("thousand.npz");
  ASSERT_EQ(run(words).status, 0);
  const io::Json one = run(with_data("evaluate") + Words{"--json"}).json();
  const io::Json other =
      run({"evaluate", file("thousand"), "--data", file("thousand.npz"), "--json"}).json();
  const double fall = static_cast<double>(48 * D_) * std::log(1000.0);
  EXPECT_NEAR(other.at("log_likelihood").get<double>(),
              one.at("log_likelihood").get<double>() - fall, 1e-3 * fall);
}

TEST_F(Run, EvaluateScoresForecasts) {
  const Outcome outcome = run(with_data("evaluate") +
                              Words{"--forecast", "--context", "4", "--horizon", "3", "--stride",
                                    "2", "--season", "2", "--samples", "20", "--json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const io::Json report = outcome.json();
  EXPECT_EQ(report.at("horizon"), 3);
  EXPECT_EQ(report.at("windows"), 4 * 3);  // origins 4, 6, 8 of 12 - 3
  EXPECT_EQ(report.at("too_short"), 0);
  for (const io::Json& scores : {report, report.at("scaled"), report.at("seasonal_naive"),
                                 report.at("seasonal_naive").at("scaled")}) {
    EXPECT_GT(scores.at("mse").get<double>(), 0);
    EXPECT_GT(scores.at("mae").get<double>(), 0);
    EXPECT_GT(scores.at("crps").get<double>(), 0);
    EXPECT_THAT(keys_of(scores.at("coverage")), ElementsAre("50", "80", "95"));
  }
}

TEST_F(Run, InferWritesDrawsOfTheStates) {
  ASSERT_EQ(run(with_data("infer") + Words{"--out", file("i.npz"), "--samples", "5"}).status, 0);
  const io::NamedArrays arrays = io::read_npz(file("i.npz"));
  EXPECT_EQ(arrays.size(), 2u);
  EXPECT_THAT(arrays.at("samples").shape, ElementsAre(5, 48, 3));
  EXPECT_EQ(arrays.at("samples").dtype, DType::float32);
  EXPECT_THAT(arrays.at("lengths").to_double(), ElementsAre(12, 12, 12, 12));
}

TEST_F(Run, ForecastWritesMomentsQuantilesAndDraws) {
  ASSERT_EQ(run(with_data("forecast") + Words{"--context", "9", "--horizon", "5", "--samples", "30",
                                              "--precision", "float64", "--out", file("f.npz")})
                .status,
            0);
  const io::NamedArrays arrays = io::read_npz(file("f.npz"));
  EXPECT_EQ(arrays.size(), 5u);
  EXPECT_THAT(arrays.at("mean").shape, ElementsAre(4, 5, D_));
  EXPECT_THAT(arrays.at("std").shape, ElementsAre(4, 5, D_));
  EXPECT_THAT(arrays.at("samples").shape, ElementsAre(30, 4, 5, D_));
  EXPECT_THAT(arrays.at("quantiles").shape, ElementsAre(7, 4, 5, D_));
  EXPECT_THAT(arrays.at("levels").to_double(),
              ElementsAre(0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975));
  // Mean, deviation and median are those of the draws, in the file's units.
  const std::vector<double> samples = arrays.at("samples").to_double();
  const auto block = static_cast<std::size_t>(4 * 5 * D_);
  std::vector<double> draws;
  for (std::size_t s = 0; s < 30; ++s) draws.push_back(samples[s * block + 7]);
  double mean = 0, squares = 0;
  for (double x : draws) mean += x / 30;
  for (double x : draws) squares += (x - mean) * (x - mean);
  std::sort(draws.begin(), draws.end());
  EXPECT_NEAR(arrays.at("mean").to_double()[7], mean, 1e-9 * (1 + std::abs(mean)));
  EXPECT_NEAR(arrays.at("quantiles").to_double()[3 * block + 7], (draws[14] + draws[15]) / 2,
              1e-9 * (1 + std::abs(mean)));
  const double std = arrays.at("std").to_double()[7];
  EXPECT_GE(std * 1.0000001, std::sqrt(squares / 30));  // of n, or of n - 1
  EXPECT_LE(std, std::sqrt(squares / 29) * 1.0000001);
}

TEST_F(Run, ForecastFromNothingIsGeneration) {
  ASSERT_EQ(run(with_data("forecast") + Words{"--context", "0", "--horizon", "6", "--samples", "2",
                                              "--seed", "4", "--out", file("f0.npz")})
                .status,
            0);
  ASSERT_EQ(run({"generate", file("run"), "--device", "cpu", "--steps", "6", "--count", "8",
                 "--seed", "4", "--out", file("g0.npz"), "--quiet"})
                .status,
            0);
  EXPECT_EQ(io::read_npz(file("f0.npz")).at("samples").to_double(),
            io::read_npz(file("g0.npz")).at("values").to_double());
}

TEST_F(Run, GenerateWritesADataSet) {
  ASSERT_EQ(run({"generate", file("run"), "--device", "cpu", "--steps", "6", "--count", "3",
                 "--out", file("g.npz"), "--quiet"})
                .status,
            0);
  const Outcome read = run({"data", "describe", file("g.npz"), "--json"});
  ASSERT_EQ(read.status, 0) << read.err;
  EXPECT_EQ(read.json().at("parts").at("all").at("steps"), 18);
}

TEST_F(Run, ImputeKeepsWhatIsThere) {
  ASSERT_EQ(run(with_data("impute") +
                Words{"--out", file("m.npz"), "--samples", "6", "--precision", "float64"})
                .status,
            0);
  const io::NamedArrays arrays = io::read_npz(file("m.npz"));
  EXPECT_EQ(arrays.size(), 5u);
  EXPECT_THAT(arrays.at("samples").shape, ElementsAre(6, 48, D_));
  EXPECT_THAT(arrays.at("ess").shape, ElementsAre(4));
  EXPECT_EQ(arrays.at("mask").dtype, DType::boolean);
  EXPECT_THAT(arrays.at("mask").to_double(), testing::Each(1));
  EXPECT_THAT(arrays.at("std").to_double(), testing::Each(0));
  const std::vector<double> values = io::read_npz(file("d.npz")).at("test_values").to_double();
  const std::vector<double> mean = arrays.at("mean").to_double();
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_NEAR(mean[i], values[i], 1e-12 * (1 + std::abs(values[i])));
  }
}

TEST_F(Run, DrawsPictures) {
  ASSERT_EQ(std::system("gnuplot -e '' >/dev/null 2>&1"), 0) << "gnuplot-nox is not installed";
  for (const std::string name : {"p.png", "p.svg"}) {
    ASSERT_EQ(run(with_data("forecast") +
                  Words{"--horizon", "4", "--out", file("p.npz"), "--plot", file(name)})
                  .status,
              0);
    const std::string start = io::read_file(file(name)).substr(0, 200);
    EXPECT_THAT(start, HasSubstr(name == "p.png" ? "PNG" : "<svg"));
  }
}

TEST_F(Run, LeavesNothingAfterAnError) {
  const TemporaryFolder empty;
  const std::string out = (empty / "x.npz").string();
  const auto refused = [&](const Words& words, const std::string& line) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_EQ(outcome.err, "seqvae: " + line + "\n");
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_THAT(files_in(empty.path()), IsEmpty());
  };
  refused(with_data("forecast") + Words{"--context", "13", "--horizon", "2", "--out", out},
          file("d.npz") + ": sequence 0: has 12 steps, fewer than --context 13");
  refused(with_data("infer") + Words{"--split", "tset", "--out", out},
          file("d.npz") + ": part 'tset': is not there, the parts are train, valid, test");
  refused(with_data("infer") + Words{"--posterior", "smooth", "--out", out},
          "--posterior: is smooth, the model's is filter");
  refused(with_data("infer") + Words{"--out", out, "--plot", (empty / "x.jpg").string()},
          "--plot: " + (empty / "x.jpg").string() + ": must end in .png or .svg");
  refused(with_data("evaluate") + Words{"--bound", "fivo"},
          "bound = fivo, must be elbo, iwae or exact");
  refused(with_data("evaluate") + Words{"--bound", "exact"},
          "bound = exact, must be elbo or iwae for this model");
  refused({"generate", file("run"), "--steps", "3", "--controls", "u.npz", "--out", out},
          "--controls: u.npz: the model takes none");
  refused({"train", "--model", "vrnn", "--data", file("d.npz"), "--out", (empty / "r").string(),
           "--set", "train.learning_rate=fast"},
          "--set: train.learning_rate: is a string, must be a number");
  refused({"train", "--data", file("d.npz"), "--out", (empty / "r").string()},
          "train: --model is required");
  refused({"generate", empty.path().string(), "--steps", "3", "--out", out},
          empty.path().string() + ": config.json: is not there: this is no run folder");
}

// Numbers of steps beyond 2^31 - 1 are refused, not taken modulo 2^32.
TEST_F(Run, RefusesMoreStepsThanThereAre) {
  const std::string out = file("steps.npz");
  const Outcome generated =
      run({"generate", file("run"), "--steps", "4294967299", "--out", out, "--quiet"});
  EXPECT_EQ(generated.status, 2);
  EXPECT_EQ(generated.err, "seqvae: generate: --steps = 4294967299, must be <= 2147483647\n");
  const Outcome forecast =
      run(with_data("forecast") + Words{"--horizon", "4294967299", "--out", out});
  EXPECT_EQ(forecast.status, 2);
  EXPECT_EQ(forecast.err, "seqvae: forecast: --horizon = 4294967299, must be <= 2147483647\n");
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST_F(Run, FitsTheExactModelByEmAndTestsItsResiduals) {
  const auto words = [](const std::string& name, const std::string& iterations) {
    return Words{"train",       "--model",
                 "lgssm",       "--data",
                 file("d.npz"), "--out",
                 file(name),    "--quiet",
                 "--set",       "configuration.states=2",
                 "--set",       "train.method=em",
                 "--set",       "train.checkpoint_every=3",
                 "--set",       "train.iterations=" + iterations};
  };
  ASSERT_EQ(run(words("em", "20")).status, 0);
  const Outcome outcome = run({"evaluate", file("em"), "--data", file("d.npz"), "--json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const io::Json residuals = outcome.json().at("residuals");
  EXPECT_THAT(keys_of(residuals),
              ElementsAre("count", "nis", "nis_p", "lags", "ljung_box", "ljung_box_p"));
  EXPECT_EQ(residuals.at("count"), 48 * D_);
  EXPECT_EQ(residuals.at("ljung_box_p").size(), static_cast<std::size_t>(D_));
  // Stopped by a signal and resumed: the same bytes.
  const Outcome stopped =
      run_and_signal(words("em_stopped", "4000"), SIGTERM, file("em_stopped/metrics.jsonl"));
  EXPECT_EQ(stopped.status, 143) << stopped.err;
  ASSERT_EQ(run(words("em_stopped", "4000") + Words{"--resume"}).status, 0);
  ASSERT_EQ(run(words("em_whole", "4000")).status, 0);
  for (const char* name : {"/last.safetensors", "/best.safetensors"}) {
    EXPECT_EQ(io::read_file(file("em_stopped") + name), io::read_file(file("em_whole") + name));
  }
}

// Variances as statsmodels estimates them, errors of their logarithms by second differences of the
// local level's likelihood, a loop in Python of its own.
TEST_F(Run, SaysTheStandardErrorsOfTheNilesVariances) {
  const std::string reference = std::string(SEQVAE_REFERENCE_DIR) + "/kalman/";
  const std::string nile = reference + "nile.csv";
  const Words data{"--data", nile, "--columns", "volume"};
  ASSERT_EQ(run(Words{"train", "--model", "lgssm", "--out", file("nile"), "--quiet", "--set",
                      R"(configuration.structural={"level": true, "irregular": true})"} +
                data)
                .status,
            0);
  const Outcome outcome = run(Words{"evaluate", file("nile"), "--parameters", "--json"} + data);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const io::Json parameters = outcome.json().at("parameters");
  EXPECT_THAT(keys_of(parameters), ElementsAre("log_variance.irregular", "log_variance.level"));
  const io::Json estimates =
      io::read_json(reference + "nile_local_level.json").at("maximum_likelihood_diffuse");
  const auto expect = [&](const char* name, const char* variance, double error) {
    const io::Json& parameter = parameters.at(name);
    EXPECT_NEAR(parameter.at("value").get<double>(), std::log(estimates.at(variance).get<double>()),
                1e-5);
    EXPECT_NEAR(parameter.at("standard_error").get<double>(), error, 1e-4);
  };
  expect("log_variance.irregular", "sigma2_eps", 0.208335);
  expect("log_variance.level", "sigma2_eta", 0.871492);
  // Within bounds: a smooth trend by its matrices.
  const Words bounds{"--set",
                     "configuration.states=2",
                     "--set",
                     R"(configuration.Q={"rank": 1})",
                     "--set",
                     R"(configuration.fixed={"A": [[1, 1], [0, 1]], "C": [[1, 0]], "d": [0],
                                             "m0": [1120, null]})"};
  const Words smooth{"train", "--model", "lgssm", "--out", file("smooth"), "--quiet"};
  ASSERT_EQ(run(smooth + bounds + data).status, 0);
  const Outcome within = run(Words{"evaluate", file("smooth"), "--parameters", "--json"} + data);
  ASSERT_EQ(within.status, 0) << within.err;
  EXPECT_THAT(keys_of(within.json().at("parameters")),
              ElementsAre("m0[1]", "log_factor.Q[0,0]", "factor.Q[1,0]", "log_variance.R[0]"));
  const Outcome wrong =
      run(Words{"train", "--model", "lgssm", "--out", file("wrong"), "--set",
                "configuration.states=1", "--set", R"(configuration.fixed={"C": [[1], [1]]})"} +
          data);
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, HasSubstr("configuration.fixed.C: has 2 rows, must have 1"));
  EXPECT_FALSE(std::filesystem::exists(file("wrong")));
  const Outcome refused = run({"evaluate", file("run"), "--parameters", "--data", file("d.npz")});
  EXPECT_EQ(refused.status, 2);
  EXPECT_EQ(refused.err,
            "seqvae: --parameters: needs a run of lgssm, whose parameters are estimates\n");
}

TEST_F(Run, RefusesDataThatTheModelCannotHaveAndLeavesNoFolder) {
  const TemporaryFolder folder;
  const std::string out = (folder / "out").string(), data = (folder / "d.csv").string();
  const auto refused = [&](const std::string& text, const Words& more, const std::string& line) {
    io::write_file(data, text);
    const Outcome outcome = run(Words{"train", "--data", data, "--out", out} + more);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_EQ(outcome.err, "seqvae: " + line + "\n");
    EXPECT_THAT(files_in(folder.path()), ElementsAre("d.csv"));
  };
  const Words dmm{"--model", "dmm", "--max-steps", "2", "--set"};
  refused("a\n1\n-0.5\n", dmm + Words{"data.emission=bernoulli"},
          "data: values = -0.5, must be in 0..1 with emission bernoulli");
  refused("a\n1\n2.5\n", dmm + Words{"data.emission=poisson"},
          "data: values = 2.5, must be 0, 1, 2, ... with emission poisson");
  refused("a\n1\n0.5\n", dmm + Words{"data.emission=categorical"},
          "data: values = 0.5, must be 0 or 1 with emission categorical");
  refused("a\n1\n1e200\n", dmm + Words{"data.emission=gaussian"},
          "data: values = 1e+200, must be within float32; standardize them, or use float64");
  refused("a\n1\n", {"--model", "lgssm", "--quiet"},
          "fit: pairs of neighbouring observed values = 0, must be at least 1");
  refused("a\n1\n2\n4\n", {"--model", "lgssm", "--quiet", "--set", "train.method=em"},
          "em: this form has no closed maximum; it is fitted by its gradient");
}

TEST_F(Run, ConfigurationFilesGiveWayToSetAndSetToFlags) {
  io::write_file(file("c.json"), R"({"model": "vrnn", "configuration": {"z": 2, "hidden": 4},
                                     "train": {"epochs": 9, "batch_size": 8, "seed": 5}})");
  const Outcome outcome = run({"train", "--config", file("c.json"), "--data", file("d.npz"),
                               "--out", file("configured"), "--set", "configuration.z=3", "--set",
                               "train.epochs=7", "--epochs", "1", "--quiet"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const io::Json config = io::read_json(file("configured/config.json"));
  EXPECT_EQ(config.at("configuration").at("hidden"), 4);
  EXPECT_EQ(config.at("configuration").at("z"), 3);
  EXPECT_EQ(config.at("train").at("epochs"), 1);
  EXPECT_EQ(config.at("train").at("seed"), 5);
}

TEST_F(Run, ReadsGapsThatItWasNotTrainedWithAndSaysSo) {
  io::NamedArrays arrays = io::read_npz(file("d.npz"));
  std::vector<double> values = arrays.at("test_values").to_double();
  values[5] = values[8] = std::nan("");
  arrays.at("test_values") = io::Array::of(arrays.at("test_values").shape, values);
  io::write_npz(file("gaps.npz"), arrays);
  const Outcome loud =
      run({"evaluate", file("run"), "--data", file("gaps.npz"), "--device", "cpu", "--json"});
  ASSERT_EQ(loud.status, 0) << loud.err;
  EXPECT_THAT(loud.err, HasSubstr("seqvae: note: " + file("gaps.npz") +
                                  ": has gaps, and the model was trained on complete data"));
  EXPECT_EQ(loud.json().at("observed"), 4 * 12 * D_ - 2);
  EXPECT_TRUE(std::isfinite(loud.json().at("nats_per_step").get<double>()));
  for (const char* command : {"impute", "forecast", "infer"}) {
    Words words = {command,          file("run"), "--data",
                   file("gaps.npz"), "--out",     file(std::string(command) + "_gaps.npz"),
                   "--quiet"};
    if (command == std::string("forecast")) words = words + Words{"--horizon", "3"};
    const Outcome quiet = run(words);
    EXPECT_EQ(quiet.status, 0) << command << ": " << quiet.err;
    EXPECT_THAT(quiet.err, IsEmpty()) << command;
  }
}

}  // namespace
}  // namespace seqvae::test

// Cells, carries in both directions of time, their starts and ends, shifts.
#include "tests/graph/gradient_cases.hpp"

namespace seqvae::test {
namespace {

using Cell = nn::Encoder::Cell;

SmallScan encoder_case(const std::string& name, Cell cell, bool backward) {
  return small_step(name, [=](ParameterTable& p) {
    const nn::Encoder rnn(p, "rnn", cell, kX + kControls, 4, backward, 0,
                          p.add_vector("h0", 4, {}));
    const nn::Linear out(p, "out", 4, kX);
    return [=](Step& s) {
      score(s, out(s, rnn(s, concat({s.previous("x"), s.input("controls")}))));
    };
  });
}

}  // namespace

std::vector<SmallScan> recurrent_cases() {
  std::vector<SmallScan> cases;
  cases.push_back(encoder_case("gru", Cell::gru, false));
  cases.push_back(encoder_case("gru_backward_in_time", Cell::gru, true));
  cases.push_back(encoder_case("lstm", Cell::lstm, false));
  cases.push_back(encoder_case("lstm_backward_in_time", Cell::lstm, true));
  cases.push_back(encoder_case("rnn", Cell::relu, false));
  cases.push_back(encoder_case("rnn_backward_in_time", Cell::relu, true));
  cases.push_back(small_step(
      "gru_on_missing",
      [] {
        return [](ParameterTable& p) -> StepFunction {
          const nn::Encoder rnn(p, "rnn", Cell::gru, kX + kControls, 4, true, kX);
          const nn::Linear out(p, "out", 4, kX);
          return [=](Step& s) {
            const Var h = rnn(s, concat({s.input("x"), s.input("controls")}));
            score(s, out(s, h));
          };
        };
      }(),
      [] {
        ScanOptions options;
        options.trace.missing = true;
        return options;
      }()));
  // Starts: zeros, a parameter, a value of the sequence; both directions.
  cases.push_back(small_step("carry_from_sequence", [](ParameterTable& p) {
    const nn::Encoder reader(p, "reader", Cell::gru, kX + kControls, 4, true, 0);
    const nn::Linear start(p, "start", 4, 3), in(p, "in", kControls, 3), on(p, "on", 3, 3),
        back(p, "back", 3, 3), end(p, "end", 3, 3);
    return [=](Step& s) {
      const Var u = s.input("controls");
      reader(s, concat({s.input("x"), u}));
      const Var from = start(s, s.final("reader"));  // of a carry_back: after its first step
      const Var h = s.carry("h", 3, activation(s, Activation::tanh, from));
      const Var now = activation(s, Activation::tanh, add(s, in(s, u), on(s, h)));
      s.next("h", now);
      // A second recurrence backward in time, from where the first one ended.
      const Var b = s.carry_back("b", 3, s.final("h"));
      const Var later = activation(s, Activation::tanh, add(s, now, back(s, b)));
      s.next_back("b", later);
      score(s, end(s, later));
    };
  }));
  cases.push_back(small_step("carry_from_parameter", [](ParameterTable& p) {
    const nn::Linear in(p, "in", kControls, kX), on(p, "on", kX, kX), back(p, "back", kX, kX);
    const std::int32_t h0 = p.add_vector("h0", kX, {}), b0 = p.add_vector("b0", kX, {});
    return [=](Step& s) {
      const Var u = in(s, s.input("controls"));
      const Var h = s.carry("h", kX, parameter(s, h0));
      s.next("h", activation(s, Activation::tanh, add(s, u, on(s, h))));
      const Var b = s.carry_back("b", kX, parameter(s, b0));
      const Var later = activation(s, Activation::tanh, add(s, h, back(s, b)));
      s.next_back("b", later);
      score(s, add(s, h, multiply(s, b, later)));
    };
  }));
  cases.push_back(small_step("carry_from_zeros", [](ParameterTable& p) {
    const nn::Linear in(p, "in", kControls, kX), on(p, "on", kX, kX);
    return [=](Step& s) {
      const Var h = s.carry("h", kX);
      s.next("h", activation(s, Activation::tanh, add(s, in(s, s.input("controls")), on(s, h))));
      score(s, h);  // the value before the step: its next is read at the next step alone
    };
  }));
  // Shifts: a carry on no cycle, in both directions, of a computed value.
  cases.push_back(small_step("shift", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, kX), g(p, "g", kControls, kX);
    const std::int32_t start = p.add_vector("start", kX, {});
    return [=](Step& s) {
      const Var u = s.input("controls");
      const Var before = s.carry("before", kX, parameter(s, start)),
                after = s.carry_back("after", kX);
      s.next("before", activation(s, Activation::tanh, f(s, u)));
      s.next_back("after", activation(s, Activation::tanh, g(s, u)));
      score(s, multiply(s, add(s, before, scale(s, 1, after, 0.5)), before));
    };
  }));
  // The value of two steps ago, inside a loop: a carry of a carry, whole and in columns.
  cases.push_back(small_step("carry_of_carry", [](ParameterTable& p) {
    const nn::Linear in(p, "in", kControls, kX), on(p, "on", 2 * kX, kX);
    return [=](Step& s) {
      const Var one = s.carry("one", kX), two = s.carry("two", kX);
      const Var now = activation(s, Activation::tanh,
                                 add(s, in(s, s.input("controls")), on(s, concat({one, two}))));
      s.next("one", now);
      s.next("two", one);
      score(s, now);
    };
  }));
  cases.push_back(small_step("carry_of_columns_of_carry", [](ParameterTable& p) {
    const nn::Linear in(p, "in", kControls, kX), on(p, "on", 2 + kX, kX);
    return [=](Step& s) {
      const Var one = s.carry("one", kX), two = s.carry("two", 2);
      const Var now = activation(s, Activation::tanh,
                                 add(s, in(s, s.input("controls")), on(s, concat({two, one}))));
      s.next("one", now);
      s.next("two", slice(s, one, 1, 2));
      score(s, now);
    };
  }));
  cases.push_back(small_step("carry_of_row_with_carry", [](ParameterTable& p) {
    const nn::Linear in(p, "in", kControls, 2), on(p, "on", 2, 2), out(p, "out", 6, kX);
    return [=](Step& s) {
      const Var one = s.carry("one", 2), pair = s.carry("pair", 4);
      const Var now =
          activation(s, Activation::tanh,
                     add(s, add(s, in(s, s.input("controls")), on(s, one)), slice(s, pair, 1, 2)));
      s.next("one", now);
      s.next("pair", var(whole(s, concat({one, now}))));
      score(s, out(s, concat({activation(s, Activation::tanh, pair), now})));
    };
  }));
  return cases;
}

}  // namespace seqvae::test

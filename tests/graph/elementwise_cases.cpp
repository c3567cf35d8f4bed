// Products, activations, arithmetic and columns.
#include <ostream>

#include "tests/graph/gradient_cases.hpp"

namespace seqvae::test {

void score(Step& s, const Var& y) {
  s.observed("x", {.kind = Emission::Kind::gaussian, .density = {y, zeros(s, kX)}});
}

std::ostream& operator<<(std::ostream& out, const SmallScan& small) { return out << small.name; }

std::vector<SmallScan> gradient_cases() {
  std::vector<SmallScan> all;
  for (const auto& part : {elementwise_cases(), recurrent_cases(), probabilistic_cases(),
                           linear_gaussian_cases(), built_cases()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

namespace {

SmallScan activation_case(const char* name, Activation kind) {
  return small_step(name, [kind](ParameterTable& p) {
    const nn::Linear in(p, "in", kControls, 5), out(p, "out", 5, kX);
    return [=](Step& s) { score(s, out(s, activation(s, kind, in(s, s.input("controls"))))); };
  });
}

ScanOptions training() {
  ScanOptions options;
  options.trace.dropout = true;
  return options;
}

ScanOptions with_missing() {
  ScanOptions options;
  options.trace.missing = true;
  return options;
}

}  // namespace

std::vector<SmallScan> elementwise_cases() {
  std::vector<SmallScan> cases;
  cases.push_back(small_step("linear", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, kX);
    return [=](Step& s) { score(s, f(s, s.input("controls"))); };
  }));
  cases.push_back(small_step(
      "linear_missing_pair",
      [](ParameterTable& p) {
        const nn::Linear f(p, "f", kX + kControls, kX, kX);
        return [=](Step& s) { score(s, f(s, concat({s.input("x"), s.input("controls")}))); };
      },
      with_missing()));
  cases.push_back(small_step(
      "linear_missing_previous",
      [](ParameterTable& p) {
        const nn::Linear f(p, "f", kX, kX, kX), g(p, "g", kX, kX);
        return [=](Step& s) {
          const Var last = s.previous("x");
          score(s, add(s, f(s, last), g(s, missing(s, last))));
        };
      },
      with_missing()));
  cases.push_back(small_step("linear_of_parts", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kX + kControls + 4, kX), g(p, "g", kControls, 4);
    return [=](Step& s) {
      const Var u = s.input("controls");
      score(s, f(s, concat({s.previous("x"), u, activation(s, Activation::tanh, g(s, u))})));
    };
  }));
  cases.push_back(small_step("linear_of_shared_row", [](ParameterTable& p) {
    const nn::Linear f(p, "f", 4 + kControls, kX);
    const std::int32_t row = p.add_vector("row", 4, {});
    return [=](Step& s) { score(s, f(s, concat({parameter(s, row), s.input("controls")}))); };
  }));
  cases.push_back(small_step("linear_of_one_input_twice", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, kX), g(p, "g", kControls, kX), h(p, "h", kX, kX);
    return [=](Step& s) {
      const Var u = s.input("controls"), y = h(s, f(s, u));
      score(s, add(s, multiply(s, y, g(s, u)), h(s, y)));  // h twice: its gradients add up
    };
  }));
  cases.push_back(activation_case("relu", Activation::relu));
  cases.push_back(activation_case("tanh", Activation::tanh));
  cases.push_back(activation_case("sigmoid", Activation::sigmoid));
  cases.push_back(activation_case("softplus", Activation::softplus));
  cases.push_back(activation_case("exp", Activation::exp));
  cases.push_back(activation_case("elu", Activation::elu));
  cases.push_back(activation_case("leaky_relu", Activation::leaky_relu));
  cases.push_back(small_step("multiply_add", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, kX), g(p, "g", kControls, kX);
    const std::int32_t row = p.add_vector("row", kX, {}), other = p.add_vector("other", kX, {});
    return [=](Step& s) {
      const Var u = s.input("controls"), a = f(s, u), b = g(s, u);
      const Var square = multiply(s, a, a), scaled = scale(s, -1.4, b, 0.3);
      const Var rows = multiply(s, parameter(s, row), add(s, square, parameter(s, other)));
      score(s, add(s, rows, multiply(s, scaled, a)));
    };
  }));
  cases.push_back(small_step("gated_mix", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, kX), g(p, "g", kControls, kX), h(p, "h", kControls, kX);
    const std::int32_t row = p.add_vector("row", kX, {});
    return [=](Step& s) {
      const Var u = s.input("controls"), gate = activation(s, Activation::sigmoid, f(s, u));
      const Var mixed = gated_mix(s, gate, g(s, u), h(s, u));
      score(s, gated_mix(s, gate, parameter(s, row), mixed));
    };
  }));
  cases.push_back(small_step("select", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, kX), g(p, "g", kControls, kX);
    const std::int32_t row = p.add_vector("row", kX, {});
    return [=](Step& s) {
      const Var u = s.input("controls"), a = f(s, u), b = g(s, u);
      const Var positive = activation(s, Activation::relu, s.input("x"));
      const Var chosen = select(s, positive, a, select(s, s.start(), parameter(s, row), b));
      score(s, multiply(s, chosen, select(s, s.time(), chosen, b)));
    };
  }));
  cases.push_back(small_step("clamp", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, kX);
    return [=](Step& s) { score(s, clamp(s, scale(s, 3, f(s, s.input("controls"))), -0.6, 1.1)); };
  }));
  cases.push_back(small_step("layer_norm", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, 5), g(p, "g", 5, kX);
    const nn::LayerNorm norm(p, "norm", 5, 1e-2);
    return [=](Step& s) { score(s, g(s, norm(s, f(s, s.input("controls"))))); };
  }));
  cases.push_back(small_step("rms_norm", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, 5), g(p, "g", 5, kX);
    const nn::RmsNorm norm(p, "norm", 5, 1e-2);
    return [=](Step& s) { score(s, g(s, norm(s, f(s, s.input("controls"))))); };
  }));
  cases.push_back(small_step(
      "dropout",
      [](ParameterTable& p) {
        const nn::Linear f(p, "f", kControls + kX, kX), g(p, "g", kX, kX);
        const std::int32_t row = p.add_vector("row", kX, {});
        return [=](Step& s) {
          const Var before = s.carry("h", kX);
          const Var h =
              activation(s, Activation::tanh, f(s, concat({s.input("controls"), before})));
          s.next("h", dropout(s, h, 0.4));  // in the loop
          score(s, add(s, g(s, dropout(s, h, 0.2)), dropout(s, parameter(s, row), 0.5)));
        };
      },
      training()));
  cases.push_back(small_step("columns", [](ParameterTable& p) {
    const nn::Linear f(p, "f", kControls, 6), g(p, "g", kControls, 2);
    return [=](Step& s) {
      const Var u = s.input("controls"), y = activation(s, Activation::tanh, f(s, u));
      // Slices that overlap, one inside another, a gap, and a slice of a slice.
      const Var a = slice(s, y, 0, 3), b = slice(s, y, 1, 4), c = slice(s, y, 2, 1);
      const Var d = slice(s, b, 1, 3);
      const Var whole_row = concat({c, g(s, u)});
      const Var cut = slice(s, whole_row, 0, 2), rest = slice(s, whole_row, 1, 2);
      const Var sums = add(s, multiply(s, a, d), activation(s, Activation::sigmoid, whole_row));
      score(s, multiply(s, sums, add(s, concat({cut, c}), concat({c, rest}))));
    };
  }));
  cases.push_back(small_step("time", [](ParameterTable& p) {
    const nn::Linear f(p, "f", 1, kX);
    return [=](Step& s) { score(s, activation(s, Activation::tanh, f(s, s.time()))); };
  }));
  cases.push_back(small_step("start", [](ParameterTable& p) {
    const nn::Linear f(p, "f", 1 + kControls, kX);
    return [=](Step& s) { score(s, f(s, concat({s.start(), s.input("controls")}))); };
  }));
  return cases;
}

}  // namespace seqvae::test

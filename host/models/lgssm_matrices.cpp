// A model's matrices from JSON and back.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "host/models/symmetric.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/models/lgssm.hpp"

namespace seqvae {
namespace {

using lgssm::Matrix;

/// A symmetric, positive semidefinite matrix.
std::vector<double> covariance(const io::JsonView& json, std::int64_t n) {
  std::vector<double> S = json.matrix(n, n);
  const Eigen::Map<const Matrix> map(S.data(), n, n);
  const double scale = map.cwiseAbs().maxCoeff();
  if (!((map - map.transpose()).cwiseAbs().maxCoeff() <= 1e-12 * scale))
    json.fail("must be symmetric");
  const Matrix symmetric = (map + map.transpose()) / 2;
  if (!(lgssm::eigenvalues(symmetric).minCoeff() >= -1e-12 * scale)) {
    json.fail("must be positive semidefinite");
  }
  std::copy_n(symmetric.data(), n * n, S.data());
  return S;
}

std::vector<double> vector(const io::JsonView& json, std::int64_t n) {
  std::vector<double> values = json.numbers();
  if (static_cast<std::int64_t>(values.size()) != n) {
    json.fail(fmt::format("has {} numbers, must have {}", values.size(), n));
  }
  return values;
}

io::Json nested(const std::vector<double>& values, std::int64_t columns) {
  io::Json rows = io::Json::array();
  for (std::size_t i = 0; i < values.size(); i += static_cast<std::size_t>(columns)) {
    rows.push_back(std::vector<double>(values.begin() + static_cast<std::ptrdiff_t>(i),
                                       values.begin() + static_cast<std::ptrdiff_t>(i) + columns));
  }
  return rows;
}

}  // namespace

LgssmMatrices LgssmMatrices::from_json(const io::JsonView& json) {
  json.allow_only({"A", "B", "b", "C", "D", "d", "Q", "R", "m0", "P0", "diffuse"});
  LgssmMatrices x;
  const io::JsonView A = json.at("A"), C = json.at("C");
  x.n = static_cast<std::int64_t>(A.elements().size());
  x.m = static_cast<std::int64_t>(C.elements().size());
  if (x.n == 0) A.fail("must have a row");
  if (x.m == 0) C.fail("must have a row");
  x.A = A.matrix(x.n, x.n);
  x.C = C.matrix(x.m, x.n);
  x.Q = covariance(json.at("Q"), x.n);
  x.R = covariance(json.at("R"), x.m);
  for (const auto& [key, rows] : {std::pair{"B", x.n}, std::pair{"D", x.m}}) {
    const auto matrix = json.get(key);
    if (!matrix) continue;
    std::vector<double>& values = rows == x.n && key[0] == 'B' ? x.B : x.D;
    values = matrix->matrix(rows, x.U > 0 ? x.U : -1);
    x.U = static_cast<std::int64_t>(values.size()) / rows;
    if (x.U == 0) matrix->fail("must have a column for each control");
  }
  if (const auto b = json.get("b")) x.b = vector(*b, x.n);
  if (const auto d = json.get("d")) x.d = vector(*d, x.m);
  if (const auto diffuse = json.get("diffuse")) {
    if (diffuse->value().is_array()) {
      for (const io::JsonView& flag : diffuse->elements()) x.diffuse.push_back(flag.boolean());
      if (static_cast<std::int64_t>(x.diffuse.size()) != x.n) {
        diffuse->fail(fmt::format("has {} flags, must have {}", x.diffuse.size(), x.n));
      }
    } else if (diffuse->boolean()) {
      x.diffuse.assign(static_cast<std::size_t>(x.n), 1);
    }
  }
  const bool all_diffuse =
      !x.diffuse.empty() && std::find(x.diffuse.begin(), x.diffuse.end(), 0) == x.diffuse.end();
  x.m0.assign(static_cast<std::size_t>(x.n), 0);
  x.P0.assign(static_cast<std::size_t>(x.n * x.n), 0);
  if (all_diffuse) {
    for (const char* key : {"m0", "P0"}) {
      if (const auto given = json.get(key)) given->fail("must not be given where all is diffuse");
    }
    return x;
  }
  x.m0 = vector(json.at("m0"), x.n);
  x.P0 = covariance(json.at("P0"), x.n);
  return x;
}

io::Json LgssmMatrices::to_json() const {
  io::Json json;
  json["A"] = nested(A, n);
  json["C"] = nested(C, n);
  json["Q"] = nested(Q, n);
  json["R"] = nested(R, m);
  if (!B.empty()) json["B"] = nested(B, U);
  if (!D.empty()) json["D"] = nested(D, U);
  if (!b.empty()) json["b"] = b;
  if (!d.empty()) json["d"] = d;
  bool all_diffuse = !diffuse.empty();
  for (std::uint8_t flag : diffuse) all_diffuse = all_diffuse && flag != 0;
  if (all_diffuse) {
    json["diffuse"] = true;
    return json;
  }
  if (!diffuse.empty()) {
    json["diffuse"] = io::Json::array();
    for (std::uint8_t flag : diffuse) json["diffuse"].push_back(flag != 0);
  }
  json["m0"] = m0;
  json["P0"] = nested(P0, n);
  return json;
}

KalmanModel<double> LgssmMatrices::view() const {
  const auto array = [](const std::vector<double>& values) {
    return StepArray<const double>(values.empty() ? nullptr : values.data());
  };
  KalmanModel<double> model;
  model.n = n, model.m = m, model.U = U;
  model.A = array(A), model.B = array(B), model.state_offset = array(b), model.Q = array(Q);
  model.C = array(C), model.D = array(D), model.observation_offset = array(d), model.R = array(R);
  model.m0 = array(m0), model.P0 = array(P0);
  model.diffuse = diffuse.empty() ? nullptr : diffuse.data();
  return model;
}

}  // namespace seqvae

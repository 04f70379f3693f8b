#include "engine/sampling/dpm_solver.h"

#include <cmath>

namespace darkroom::engine {

DpmUpdate dpm_update(AlgorithmType algorithm, const Level& from, const Level& to) {
  const float h = to.lambda - from.lambda;
  DpmUpdate update;
  switch (algorithm) {
    case AlgorithmType::dpmsolver_pp: {
      const float decay = std::exp(-h) - 1.0F;
      update.sample = to.sigma / from.sigma;
      update.d0 = -(to.alpha * decay);
      update.d1_heun = to.alpha * (decay / h + 1.0F);
      update.d2 = -(to.alpha * ((decay + h) / (h * h) - 0.5F));
      break;
    }
    case AlgorithmType::dpmsolver: {
      const float growth = std::exp(h) - 1.0F;
      update.sample = to.alpha / from.alpha;
      update.d0 = -(to.sigma * growth);
      update.d1_heun = -(to.sigma * (growth / h - 1.0F));
      update.d2 = -(to.sigma * ((growth - h) / (h * h) - 0.5F));
      break;
    }
    case AlgorithmType::sde_dpmsolver_pp: {
      const float rest = 1.0F - std::exp(-2.0F * h);
      update.sample = to.sigma / from.sigma * std::exp(-h);
      update.d0 = to.alpha * rest;
      update.d1_heun = to.alpha * (rest / (-2.0F * h) + 1.0F);
      update.d2 = to.alpha * ((rest - 2.0F * h) / (4.0F * h * h) - 0.5F);
      update.noise = to.sigma * std::sqrt(rest);
      break;
    }
    case AlgorithmType::sde_dpmsolver: {
      const float growth = std::exp(h) - 1.0F;
      update.sample = to.alpha / from.alpha;
      update.d0 = -2.0F * (to.sigma * growth);
      update.d1_heun = -2.0F * (to.sigma * (growth / h - 1.0F));
      update.noise = to.sigma * std::sqrt(std::exp(2.0F * h) - 1.0F);
      break;
    }
  }
  update.d1_midpoint = 0.5F * update.d0;
  return update;
}

void DpmSolver::lay_out_sigmas(int steps) {
  space_steps(steps);
  sigmas_.push_back(config_.final_sigmas_type == FinalSigmas::sigma_min ? least_train_sigma() : 0.0F);
  forget_steps();
}

std::vector<float> DpmSolver::prediction(int i, std::span<const float> model_output,
                                         std::span<const float> sample) const {
  const bool of_picture = config_.algorithm_type == AlgorithmType::dpmsolver_pp ||
                          config_.algorithm_type == AlgorithmType::sde_dpmsolver_pp;
  return of_picture ? predicted_picture(i, model_output, sample) : predicted_noise(i, model_output, sample);
}

void DpmSolver::apply(const DpmUpdate& update, std::span<const float> from, std::initializer_list<Term> terms,
                      std::span<float> sample, NoiseSource& noise) const {
  for (std::size_t k = 0; k < sample.size(); ++k) sample[k] = update.sample * from[k];
  for (const Term& term : terms) {
    for (std::size_t k = 0; k < sample.size(); ++k) sample[k] += term.weight * term.direction[k];
  }
  const bool stochastic = config_.algorithm_type == AlgorithmType::sde_dpmsolver ||
                          config_.algorithm_type == AlgorithmType::sde_dpmsolver_pp;
  if (!stochastic) return;
  std::vector<float> fresh(sample.size());
  noise.fill(fresh);
  for (std::size_t k = 0; k < sample.size(); ++k) sample[k] += update.noise * fresh[k];
}

std::vector<float> scaled_difference(float factor, std::span<const float> a, std::span<const float> b) {
  std::vector<float> result(a.size());
  for (std::size_t k = 0; k < result.size(); ++k) result[k] = factor * (a[k] - b[k]);
  return result;
}

}  // namespace darkroom::engine

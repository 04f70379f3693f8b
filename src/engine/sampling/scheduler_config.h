// What a scheduler is made from: diffusers' scheduler_config.json with a request's options over it. Immutable.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

enum class SchedulerClass : std::uint8_t {
  ddim,
  ddpm,
  deis_multistep,
  dpm_solver_multistep,
  dpm_solver_singlestep,
  euler_ancestral_discrete,
  euler_discrete,
  heun_discrete,
  kdpm2_ancestral_discrete,
  kdpm2_discrete,
  lcm,
  lms_discrete,
  pndm,
  tcd,
  unipc_multistep,
};

enum class BetaSchedule : std::uint8_t { linear, scaled_linear, squaredcos_cap_v2 };
enum class PredictionType : std::uint8_t { epsilon, v_prediction, sample };
enum class TimestepSpacing : std::uint8_t { leading, trailing, linspace };
enum class FinalSigmas : std::uint8_t { zero, sigma_min };
enum class AlgorithmType : std::uint8_t { dpmsolver, dpmsolver_pp, sde_dpmsolver, sde_dpmsolver_pp };
enum class SolverType : std::uint8_t { midpoint, heun, bh1, bh2, logrho };
enum class VarianceType : std::uint8_t { fixed_small, fixed_small_log, fixed_large };
enum class Interpolation : std::uint8_t { linear, log_linear };
enum class TimestepType : std::uint8_t { discrete, continuous };
// Where the noise levels of the steps lie: those of the timesteps, or laid out anew between the extremes.
enum class SigmaSpacing : std::uint8_t { of_timesteps, karras, exponential, beta, lu };

// Members are named as the keys, except sigma_spacing: use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas and
// use_lu_lambdas, of which at most one is true. The defaults are those that most classes have; a class may differ.
struct SchedulerConfig {
  SchedulerClass scheduler_class = SchedulerClass::euler_discrete;

  // The noise of training.
  int num_train_timesteps = 1000;
  double beta_start = 0.0001;
  double beta_end = 0.02;
  BetaSchedule beta_schedule = BetaSchedule::linear;
  std::vector<double> trained_betas;  // instead, if there are any: num_train_timesteps of them
  bool rescale_betas_zero_snr = false;
  PredictionType prediction_type = PredictionType::epsilon;

  // The steps.
  TimestepSpacing timestep_spacing = TimestepSpacing::linspace;
  int steps_offset = 0;  // timesteps
  SigmaSpacing sigma_spacing = SigmaSpacing::of_timesteps;
  std::optional<double> sigma_min, sigma_max;  // of those laid out anew; absent: as in training
  FinalSigmas final_sigmas_type = FinalSigmas::zero;
  Interpolation interpolation_type = Interpolation::linear;
  TimestepType timestep_type = TimestepType::discrete;
  double lambda_min_clipped = 0.0;  // log(alpha/sigma) below which no step begins; set where the class has it

  // The solver.
  int solver_order = 2;
  AlgorithmType algorithm_type = AlgorithmType::dpmsolver_pp;
  SolverType solver_type = SolverType::midpoint;
  bool lower_order_final = true;
  bool euler_at_final = false;
  bool predict_x0 = true;
  std::vector<int> disable_corrector;  // steps
  bool skip_prk_steps = false;
  bool clip_sample = true;
  double clip_sample_range = 1.0;
  bool set_alpha_to_one = true;
  VarianceType variance_type = VarianceType::fixed_small;
  double eta = 0.0;  // of diffusers' step() and pipelines: 0 deterministic … 1 as much noise as DDPM
  int original_inference_steps = 50;
  double timestep_scaling = 10.0;
};

// As make_scheduler() of scheduler.h, which this is the first half of.
Result<SchedulerConfig> parse_scheduler_config(std::string_view class_name, std::string_view model_config_json,
                                               std::span<const SchedulerOption> options);

struct SchedulerClassName {
  SchedulerClass scheduler_class;
  std::string_view name;  // "EulerDiscreteScheduler"
};

// All classes, in alphabetical order.
std::span<const SchedulerClassName> scheduler_classes();

}  // namespace darkroom::engine

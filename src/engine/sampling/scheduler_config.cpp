#include "engine/sampling/scheduler_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace darkroom::engine {

namespace {

using nlohmann::json;
using enum SchedulerClass;

// ---- Classes -------------------------------------------------------------------------------------------------------

constexpr std::array kClasses = {
    SchedulerClassName{ddim, "DDIMScheduler"},
    SchedulerClassName{ddpm, "DDPMScheduler"},
    SchedulerClassName{deis_multistep, "DEISMultistepScheduler"},
    SchedulerClassName{dpm_solver_multistep, "DPMSolverMultistepScheduler"},
    SchedulerClassName{dpm_solver_singlestep, "DPMSolverSinglestepScheduler"},
    SchedulerClassName{euler_ancestral_discrete, "EulerAncestralDiscreteScheduler"},
    SchedulerClassName{euler_discrete, "EulerDiscreteScheduler"},
    SchedulerClassName{heun_discrete, "HeunDiscreteScheduler"},
    SchedulerClassName{kdpm2_ancestral_discrete, "KDPM2AncestralDiscreteScheduler"},
    SchedulerClassName{kdpm2_discrete, "KDPM2DiscreteScheduler"},
    SchedulerClassName{lcm, "LCMScheduler"},
    SchedulerClassName{lms_discrete, "LMSDiscreteScheduler"},
    SchedulerClassName{pndm, "PNDMScheduler"},
    SchedulerClassName{tcd, "TCDScheduler"},
    SchedulerClassName{unipc_multistep, "UniPCMultistepScheduler"},
};

// Defaults that differ between diffusers' classes.
SchedulerConfig defaults_of(SchedulerClass scheduler_class) {
  SchedulerConfig config;
  config.scheduler_class = scheduler_class;
  switch (scheduler_class) {
    case ddim:
    case ddpm:
      config.timestep_spacing = TimestepSpacing::leading;
      break;
    case pndm:
      config.timestep_spacing = TimestepSpacing::leading;
      config.set_alpha_to_one = false;
      config.clip_sample = false;
      break;
    case tcd:
      config.eta = 0.3;
      [[fallthrough]];
    case lcm:
      config.timestep_spacing = TimestepSpacing::leading;
      config.beta_start = 0.00085;
      config.beta_end = 0.012;
      config.beta_schedule = BetaSchedule::scaled_linear;
      config.clip_sample = false;
      break;
    case heun_discrete:
    case kdpm2_discrete:
    case kdpm2_ancestral_discrete:
      config.beta_start = 0.00085;
      config.beta_end = 0.012;
      config.clip_sample = false;
      break;
    case dpm_solver_singlestep:
      config.lower_order_final = false;
      [[fallthrough]];
    case dpm_solver_multistep:
      config.lambda_min_clipped = -std::numeric_limits<double>::infinity();
      break;
    case unipc_multistep:
      config.solver_type = SolverType::bh2;
      break;
    case deis_multistep:
      config.solver_type = SolverType::logrho;
      break;
    case euler_discrete:
    case euler_ancestral_discrete:
    case lms_discrete:
      break;
  }
  return config;
}

class ClassSet {
 public:
  constexpr ClassSet(std::initializer_list<SchedulerClass> classes) {
    for (const SchedulerClass one : classes) bits_ |= bit(one);
  }
  static constexpr ClassSet all_but(std::initializer_list<SchedulerClass> classes) {
    ClassSet set(classes);
    set.bits_ = ~set.bits_;
    return set;
  }
  constexpr bool has(SchedulerClass one) const { return (bits_ & bit(one)) != 0; }

 private:
  static constexpr unsigned bit(SchedulerClass one) { return 1U << static_cast<unsigned>(one); }
  unsigned bits_ = 0;
};

// ---- Reading -------------------------------------------------------------------------------------------------------

// A value and where it stands.
struct Source {
  std::string_view key;
  const json& value;
  bool is_option;  // of the request; else the model's own
};

class Complaints {
 public:
  template <class... Args>
  void add(const Source& source, fmt::format_string<Args...> format, Args&&... args) {
    std::string value = source.value.dump();
    constexpr std::size_t longest = 80;  // characters of a value that a message repeats
    if (value.size() > longest) value.replace(longest, std::string::npos, " …");
    add(fmt::format("{} {}: {} {}", source.is_option ? "scheduler option" : "the model's scheduler_config.json,",
                    source.key, value, fmt::format(format, std::forward<Args>(args)...)));
  }
  void add(std::string text) { texts_.push_back(std::move(text)); }
  bool empty() const { return texts_.empty(); }
  tl::unexpected<Error> error() const { return fail(ErrorCode::invalid_argument, "{}", fmt::join(texts_, "; ")); }

 private:
  std::vector<std::string> texts_;
};

template <class Enum>
struct Choice {
  std::string_view name;
  Enum value;
};

template <class Enum>
void read_choice(const Source& source, Enum& member, std::initializer_list<Choice<Enum>> choices,
                 Complaints& complaints) {
  std::vector<std::string_view> names;
  for (const Choice<Enum>& choice : choices) {
    if (source.value == json(choice.name)) {
      member = choice.value;
      return;
    }
    names.push_back(choice.name);
  }
  complaints.add(source, "is not one of {}", fmt::join(names, ", "));
}

void read_flag(const Source& source, bool& member, Complaints& complaints) {
  if (source.value.is_boolean()) {
    member = source.value.get<bool>();
  } else {
    complaints.add(source, "is neither true nor false");
  }
}

void read_integer(const Source& source, int& member, int min, int max, Complaints& complaints) {
  const bool fits = source.value.is_number_integer() && source.value >= json(min) && source.value <= json(max);
  if (fits) {
    member = source.value.get<int>();
  } else {
    complaints.add(source, "is not a whole number from {} to {}", min, max);
  }
}

// Strictly between min and max, or equal to one of them where `ends` allows.
enum class Ends : std::uint8_t { excluded, included };
template <class Number>
void read_number(const Source& source, Number& member, double min, double max, Ends ends, Complaints& complaints) {
  if (source.value.is_number()) {
    const double value = source.value.get<double>();
    const bool inside = ends == Ends::included ? value >= min && value <= max : value > min && value < max;
    if (inside) {
      member = value;
      return;
    }
  }
  complaints.add(source, "is not a number {} {} and {}", ends == Ends::included ? "from" : "between", min, max);
}

template <class Element>
void read_list(const Source& source, std::vector<Element>& member, Complaints& complaints) {
  const bool fits = source.value.is_array() && std::ranges::all_of(source.value, [](const json& element) {
                      return std::is_integral_v<Element> ? element.is_number_integer() : element.is_number();
                    });
  if (fits) {
    member = source.value.get<std::vector<Element>>();
  } else {
    complaints.add(source, "is not a list of {}", std::is_integral_v<Element> ? "whole numbers" : "numbers");
  }
}

// At most one spacing is on. Each source has been cleared of the other's before (see parse_scheduler_config).
void read_sigma_spacing(const Source& source, SchedulerConfig& config, SigmaSpacing spacing, Complaints& complaints) {
  bool on = false;
  read_flag(source, on, complaints);
  if (!on) return;
  if (config.sigma_spacing != SigmaSpacing::of_timesteps) {
    complaints.add(source,
                   "cannot go with another of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas and "
                   "use_lu_lambdas");
  }
  config.sigma_spacing = spacing;
}

// compat(diffusers): a configuration saved by another solver keeps that solver's types; they mean the default here.
bool is_of_another_solver(const Source& source, std::initializer_list<std::string_view> foreign) {
  return !source.is_option && std::ranges::any_of(foreign, [&](std::string_view name) { return source.value == name; });
}

void read_solver_type(const Source& source, SchedulerConfig& config, Complaints& complaints) {
  if (config.scheduler_class == unipc_multistep) {
    if (is_of_another_solver(source, {"midpoint", "heun", "logrho"})) return;
    read_choice(source, config.solver_type, {{"bh1", SolverType::bh1}, {"bh2", SolverType::bh2}}, complaints);
  } else if (config.scheduler_class == deis_multistep) {
    if (is_of_another_solver(source, {"midpoint", "heun", "bh1", "bh2"})) return;
    read_choice(source, config.solver_type, {{"logrho", SolverType::logrho}}, complaints);
  } else {
    if (is_of_another_solver(source, {"logrho", "bh1", "bh2"})) return;
    read_choice(source, config.solver_type, {{"midpoint", SolverType::midpoint}, {"heun", SolverType::heun}},
                complaints);
  }
}

void read_algorithm_type(const Source& source, SchedulerConfig& config, Complaints& complaints) {
  if (is_of_another_solver(source, {"deis"})) return;
  read_choice(source, config.algorithm_type,
              {{"dpmsolver++", AlgorithmType::dpmsolver_pp},
               {"dpmsolver", AlgorithmType::dpmsolver},
               {"sde-dpmsolver++", AlgorithmType::sde_dpmsolver_pp},
               {"sde-dpmsolver", AlgorithmType::sde_dpmsolver}},
              complaints);
}

// Clipping pixel values has no meaning for latents.
void read_thresholding(const Source& source, Complaints& complaints) {
  if (source.value != json(false)) complaints.add(source, "is not supported; false is");
}

void read_lambda_min_clipped(const Source& source, SchedulerConfig& config, Complaints& complaints) {
  // compat(diffusers): JSON has no infinities, files have this one as a string, or as Python's -Infinity (see below).
  if (source.value == json("-inf") || source.value == json("-Infinity")) return;
  constexpr double most = std::numeric_limits<double>::max();
  read_number(source, config.lambda_min_clipped, -most, most, Ends::included, complaints);
}

// ---- Keys ----------------------------------------------------------------------------------------------------------

struct Key {
  std::string_view name;
  ClassSet classes;
  void (*read)(const Source&, SchedulerConfig&, Complaints&);
};

constexpr ClassSet kEvery = ClassSet::all_but({});
constexpr ClassSet kWithSpacing = ClassSet::all_but({ddim, ddpm, lcm, tcd, pndm, euler_ancestral_discrete});
constexpr ClassSet kDpm = {dpm_solver_multistep, dpm_solver_singlestep};
constexpr ClassSet kLogSnr = {dpm_solver_multistep, dpm_solver_singlestep, unipc_multistep, deis_multistep};

const std::vector<Key>& keys() {
  using S = const Source&;
  using C = SchedulerConfig&;
  using E = Complaints&;
  static const std::vector<Key> table = {
      {"num_train_timesteps", kEvery, [](S s, C c, E e) { read_integer(s, c.num_train_timesteps, 2, 100000, e); }},
      {"beta_start", kEvery, [](S s, C c, E e) { read_number(s, c.beta_start, 0.0, 1.0, Ends::excluded, e); }},
      {"beta_end", kEvery, [](S s, C c, E e) { read_number(s, c.beta_end, 0.0, 1.0, Ends::excluded, e); }},
      {"beta_schedule", kEvery,
       [](S s, C c, E e) {
         read_choice(s, c.beta_schedule,
                     {{"linear", BetaSchedule::linear},
                      {"scaled_linear", BetaSchedule::scaled_linear},
                      {"squaredcos_cap_v2", BetaSchedule::squaredcos_cap_v2}},
                     e);
       }},
      {"trained_betas", kEvery, [](S s, C c, E e) { read_list(s, c.trained_betas, e); }},
      {"rescale_betas_zero_snr",
       {ddim, ddpm, dpm_solver_multistep, euler_discrete, euler_ancestral_discrete, lcm, tcd, unipc_multistep},
       [](S s, C c, E e) { read_flag(s, c.rescale_betas_zero_snr, e); }},
      {"prediction_type", kEvery,
       [](S s, C c, E e) {
         read_choice(s, c.prediction_type,
                     {{"epsilon", PredictionType::epsilon},
                      {"v_prediction", PredictionType::v_prediction},
                      {"sample", PredictionType::sample}},
                     e);
       }},
      {"timestep_spacing", ClassSet::all_but({dpm_solver_singlestep}),
       [](S s, C c, E e) {
         read_choice(s, c.timestep_spacing,
                     {{"leading", TimestepSpacing::leading},
                      {"trailing", TimestepSpacing::trailing},
                      {"linspace", TimestepSpacing::linspace}},
                     e);
       }},
      {"steps_offset", ClassSet::all_but({dpm_solver_singlestep}),
       [](S s, C c, E e) { read_integer(s, c.steps_offset, 0, 99999, e); }},
      {"use_karras_sigmas", kWithSpacing, [](S s, C c, E e) { read_sigma_spacing(s, c, SigmaSpacing::karras, e); }},
      {"use_exponential_sigmas", kWithSpacing,
       [](S s, C c, E e) { read_sigma_spacing(s, c, SigmaSpacing::exponential, e); }},
      {"use_beta_sigmas", kWithSpacing, [](S s, C c, E e) { read_sigma_spacing(s, c, SigmaSpacing::beta, e); }},
      {"use_lu_lambdas", {dpm_solver_multistep}, [](S s, C c, E e) { read_sigma_spacing(s, c, SigmaSpacing::lu, e); }},
      {"sigma_min", {euler_discrete}, [](S s, C c, E e) { read_number(s, c.sigma_min, 0.0, 1e6, Ends::excluded, e); }},
      {"sigma_max", {euler_discrete}, [](S s, C c, E e) { read_number(s, c.sigma_max, 0.0, 1e6, Ends::excluded, e); }},
      {"final_sigmas_type",
       {dpm_solver_multistep, dpm_solver_singlestep, euler_discrete, unipc_multistep},
       [](S s, C c, E e) {
         read_choice(s, c.final_sigmas_type, {{"zero", FinalSigmas::zero}, {"sigma_min", FinalSigmas::sigma_min}}, e);
       }},
      {"interpolation_type",
       {euler_discrete},
       [](S s, C c, E e) {
         read_choice(s, c.interpolation_type,
                     {{"linear", Interpolation::linear}, {"log_linear", Interpolation::log_linear}}, e);
       }},
      {"timestep_type",
       {euler_discrete},
       [](S s, C c, E e) {
         read_choice(s, c.timestep_type,
                     {{"discrete", TimestepType::discrete}, {"continuous", TimestepType::continuous}}, e);
       }},
      {"lambda_min_clipped", kDpm, read_lambda_min_clipped},
      {"solver_order", kLogSnr, [](S s, C c, E e) { read_integer(s, c.solver_order, 1, 3, e); }},
      {"algorithm_type", kDpm, read_algorithm_type},
      {"solver_type", kLogSnr, read_solver_type},
      {"lower_order_final", kLogSnr, [](S s, C c, E e) { read_flag(s, c.lower_order_final, e); }},
      {"euler_at_final", {dpm_solver_multistep}, [](S s, C c, E e) { read_flag(s, c.euler_at_final, e); }},
      {"predict_x0", {unipc_multistep}, [](S s, C c, E e) { read_flag(s, c.predict_x0, e); }},
      {"disable_corrector", {unipc_multistep}, [](S s, C c, E e) { read_list(s, c.disable_corrector, e); }},
      {"skip_prk_steps", {pndm}, [](S s, C c, E e) { read_flag(s, c.skip_prk_steps, e); }},
      {"clip_sample", {ddim, ddpm, heun_discrete, lcm}, [](S s, C c, E e) { read_flag(s, c.clip_sample, e); }},
      {"clip_sample_range",
       {ddim, ddpm, heun_discrete, lcm},
       [](S s, C c, E e) { read_number(s, c.clip_sample_range, 0.0, 1e6, Ends::excluded, e); }},
      {"set_alpha_to_one", {ddim, lcm, tcd, pndm}, [](S s, C c, E e) { read_flag(s, c.set_alpha_to_one, e); }},
      {"thresholding",
       ClassSet::all_but({euler_discrete, euler_ancestral_discrete, heun_discrete, kdpm2_discrete,
                          kdpm2_ancestral_discrete, lms_discrete, pndm}),
       [](S s, C, E e) { read_thresholding(s, e); }},
      {"variance_type",
       {ddpm},
       [](S s, C c, E e) {
         read_choice(s, c.variance_type,
                     {{"fixed_small", VarianceType::fixed_small},
                      {"fixed_small_log", VarianceType::fixed_small_log},
                      {"fixed_large", VarianceType::fixed_large}},
                     e);
       }},
      {"eta", {ddim, tcd}, [](S s, C c, E e) { read_number(s, c.eta, 0.0, 1.0, Ends::included, e); }},
      {"original_inference_steps",
       {lcm, tcd},
       [](S s, C c, E e) { read_integer(s, c.original_inference_steps, 1, 100000, e); }},
      {"timestep_scaling",
       {lcm},
       [](S s, C c, E e) { read_number(s, c.timestep_scaling, 0.0, 1e6, Ends::excluded, e); }},
  };
  return table;
}

// Of one class, or of any.
std::vector<std::string_view> keys_of(const SchedulerClassName* known_class) {
  std::vector<std::string_view> names;
  for (const Key& key : keys()) {
    if (known_class == nullptr || key.classes.has(known_class->scheduler_class)) names.push_back(key.name);
  }
  return names;
}

const SchedulerClassName* find_class(std::string_view class_name) {
  const auto* const found = std::ranges::find(kClasses, class_name, &SchedulerClassName::name);
  return found == kClasses.end() ? nullptr : &*found;
}

bool is_spacing_key(std::string_view key) {
  return key == "use_karras_sigmas" || key == "use_exponential_sigmas" || key == "use_beta_sigmas" ||
         key == "use_lu_lambdas";
}

// The model's configuration, {} for an empty text.
json parse_model_config(std::string_view text, Complaints& complaints) {
  if (text.empty()) return json::object();
  // compat(diffusers): Python writes an infinite lambda_min_clipped as -Infinity, which is no JSON.
  std::string repaired(text);
  constexpr std::string_view infinity = "-Infinity";
  for (auto at = repaired.find(infinity); at != std::string::npos; at = repaired.find(infinity, at + 1)) {
    const bool quoted = at > 0 && repaired[at - 1] == '"';
    if (!quoted) repaired.replace(at, infinity.size(), "\"-inf\"");
  }
  json config = json::parse(repaired, nullptr, /*allow_exceptions=*/false);
  if (config.is_object()) return config;
  complaints.add("the model's scheduler_config.json is not a JSON object");
  return json::object();
}

// The request's options, as one object; complains of what is unknown to `classes` or not JSON.
json parse_options(std::span<const SchedulerOption> options, const SchedulerClassName* known_class,
                   Complaints& complaints) {
  json parsed = json::object();
  for (const auto& [name, text] : options) {
    const std::vector<std::string_view> known = keys_of(known_class);
    if (std::ranges::find(known, name) == known.end()) {
      complaints.add(fmt::format("scheduler option {}: unknown; known to {} are {}", name,
                                 known_class != nullptr ? known_class->name : "any scheduler", fmt::join(known, ", ")));
      continue;
    }
    if (parsed.contains(name)) complaints.add(fmt::format("scheduler option {}: given twice", name));
    json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) {
      complaints.add(fmt::format("scheduler option {}: {} is not JSON; a word needs quotes", name, text));
      continue;
    }
    parsed[name] = std::move(value);
  }
  return parsed;
}

// What two keys together rule out.
void check_together(const SchedulerConfig& config, Complaints& complaints) {
  const auto trained = static_cast<int>(config.trained_betas.size());
  if (trained != 0 && trained != config.num_train_timesteps) {
    complaints.add(
        fmt::format("trained_betas: {} values for num_train_timesteps {}", trained, config.num_train_timesteps));
  }
  const bool valid = std::ranges::all_of(config.trained_betas, [](double beta) { return beta > 0.0 && beta < 1.0; });
  if (!valid) complaints.add("trained_betas: all must lie between 0 and 1");
  if (config.steps_offset >= config.num_train_timesteps) {
    complaints.add(fmt::format("steps_offset: {} is not below num_train_timesteps {}", config.steps_offset,
                               config.num_train_timesteps));
  }
  if (config.sigma_min && config.sigma_max && *config.sigma_min >= *config.sigma_max) {
    complaints.add(fmt::format("sigma_min: {} is not below sigma_max {}", *config.sigma_min, *config.sigma_max));
  }
  const bool unending = config.scheduler_class == unipc_multistep && !config.lower_order_final &&
                        config.solver_order > 1 && config.final_sigmas_type == FinalSigmas::zero;
  if (unending) {
    complaints.add(
        "lower_order_final: false cannot end at zero with solver_order above 1; it goes with final_sigmas_type "
        "sigma_min");
  }
  if (!kDpm.has(config.scheduler_class)) return;
  const bool predicts_noise =
      config.algorithm_type == AlgorithmType::dpmsolver || config.algorithm_type == AlgorithmType::sde_dpmsolver;
  if (predicts_noise && config.final_sigmas_type == FinalSigmas::zero) {
    complaints.add(
        "final_sigmas_type: algorithm_type dpmsolver and sde-dpmsolver cannot end at zero; they go with sigma_min");
  }
  if (config.algorithm_type == AlgorithmType::sde_dpmsolver && config.solver_order == 3) {
    complaints.add("solver_order: algorithm_type sde-dpmsolver has 1 and 2, not 3");
  }
  if (config.scheduler_class == dpm_solver_singlestep && config.algorithm_type == AlgorithmType::sde_dpmsolver) {
    complaints.add("algorithm_type: DPMSolverSinglestepScheduler has dpmsolver, dpmsolver++ and sde-dpmsolver++");
  }
}

}  // namespace

std::span<const SchedulerClassName> scheduler_classes() { return kClasses; }

std::vector<std::string_view> scheduler_option_names(std::string_view class_name) {
  const SchedulerClassName* known_class = find_class(class_name);
  return known_class == nullptr ? std::vector<std::string_view>{} : keys_of(known_class);
}

Result<SchedulerConfig> parse_scheduler_config(std::string_view class_name, std::string_view model_config_json,
                                               std::span<const SchedulerOption> options) {
  Complaints complaints;
  const SchedulerClassName* known_class = find_class(class_name);
  json model = parse_model_config(model_config_json, complaints);
  const json given = parse_options(options, known_class, complaints);
  if (known_class == nullptr) {
    std::vector<std::string_view> names;
    for (const SchedulerClassName& known : kClasses) names.push_back(known.name);
    complaints.add(fmt::format("scheduler {}: is not one of {}", class_name, fmt::join(names, ", ")));
    return complaints.error();
  }

  // A spacing that the request turns on replaces the model's.
  const bool spacing_given = std::ranges::any_of(
      given.items(), [](const auto& item) { return is_spacing_key(item.key()) && item.value() == json(true); });
  SchedulerConfig config = defaults_of(known_class->scheduler_class);
  for (const Key& key : keys()) {
    if (!key.classes.has(known_class->scheduler_class)) continue;
    const bool is_option = given.contains(key.name);
    if (!is_option && spacing_given && is_spacing_key(key.name)) continue;
    const json& source = is_option ? given : model;
    const auto value = source.find(key.name);
    if (value == source.end() || value->is_null()) continue;
    key.read({key.name, *value, is_option}, config, complaints);
  }
  check_together(config, complaints);
  if (!complaints.empty()) return complaints.error();
  return config;
}

}  // namespace darkroom::engine

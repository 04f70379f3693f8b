#include "spec/scheduler_names.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>
#include <utility>

#include <fmt/ranges.h>

namespace darkroom {

namespace {

constexpr std::array kClasses = {
    SchedulerClassEntry{.name = "DDIMScheduler", .has_sigma_spacings = false},
    SchedulerClassEntry{.name = "DDPMScheduler", .has_sigma_spacings = false},
    SchedulerClassEntry{.name = "DEISMultistepScheduler"},
    SchedulerClassEntry{.name = "DPMSolverMultistepScheduler", .has_lu_lambdas = true},
    SchedulerClassEntry{.name = "DPMSolverSinglestepScheduler", .has_timestep_spacing = false},
    SchedulerClassEntry{.name = "EulerAncestralDiscreteScheduler", .has_sigma_spacings = false},
    SchedulerClassEntry{.name = "EulerDiscreteScheduler"},
    SchedulerClassEntry{.name = "HeunDiscreteScheduler"},
    SchedulerClassEntry{.name = "KDPM2AncestralDiscreteScheduler"},
    SchedulerClassEntry{.name = "KDPM2DiscreteScheduler"},
    SchedulerClassEntry{.name = "LCMScheduler", .has_sigma_spacings = false},
    SchedulerClassEntry{.name = "LMSDiscreteScheduler"},
    SchedulerClassEntry{.name = "PNDMScheduler", .has_sigma_spacings = false},
    SchedulerClassEntry{.name = "TCDScheduler", .has_sigma_spacings = false},
    SchedulerClassEntry{.name = "UniPCMultistepScheduler"},
};

bool has_option(std::string_view class_name, std::string_view key) {
  const auto* const found = std::ranges::find(kClasses, class_name, &SchedulerClassEntry::name);
  if (found == kClasses.end()) return false;
  if (key == "timestep_spacing") return found->has_timestep_spacing;
  if (key == "use_lu_lambdas") return found->has_lu_lambdas;
  return found->has_sigma_spacings;
}

const SchedulerOption kDeterministic = {"algorithm_type", "\"dpmsolver++\""};
const SchedulerOption kStochastic = {"algorithm_type", "\"sde-dpmsolver++\""};
const SchedulerOption kSecondOrder = {"solver_order", "2"};
const SchedulerOption kThirdOrder = {"solver_order", "3"};
const SchedulerOption kMidpoint = {"solver_type", "\"midpoint\""};
const SchedulerOption kHeun = {"solver_type", "\"heun\""};

// A class's own name, and its short form, mean the class as the model configures it.
std::vector<SchedulerEntry> scheduler_entries() {
  return {
      {"DPM++ 2M",
       "DPMSolverMultistepScheduler",
       {"dpmpp_2m", "k_dpmpp_2m"},
       {kDeterministic, kSecondOrder, kMidpoint}},
      {"DPM++ 2M Heun", "DPMSolverMultistepScheduler", {"dpmpp_2m_heun"}, {kDeterministic, kSecondOrder, kHeun}},
      {"DPM++ 3M", "DPMSolverMultistepScheduler", {"dpmpp_3m"}, {kDeterministic, kThirdOrder}},
      {"DPM++ 2M SDE",
       "DPMSolverMultistepScheduler",
       {"dpmpp_2m_sde", "k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu"},
       {kStochastic, kSecondOrder, kMidpoint}},
      {"DPM++ 2M SDE Heun",
       "DPMSolverMultistepScheduler",
       {"dpmpp_2m_sde_heun", "k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"},
       {kStochastic, kSecondOrder, kHeun}},
      {"DPM++ 3M SDE",
       "DPMSolverMultistepScheduler",
       {"dpmpp_3m_sde", "k_dpmpp_3m_sde", "dpmpp_3m_sde_gpu"},
       {kStochastic, kThirdOrder}},
      {"DPM++ 2S", "DPMSolverSinglestepScheduler", {"dpmpp_2s"}, {kDeterministic, kSecondOrder, kMidpoint}},
      {"DPM++ SDE",
       "DPMSolverSinglestepScheduler",
       {"dpmpp_sde", "k_dpmpp_sde", "dpmpp_sde_gpu"},
       {kStochastic, kSecondOrder, kMidpoint}},
      {"Euler", "EulerDiscreteScheduler", {"k_euler"}, {}},
      {"Euler a", "EulerAncestralDiscreteScheduler", {"euler_ancestral", "k_euler_a", "k_euler_ancestral"}, {}},
      {"Heun", "HeunDiscreteScheduler", {"k_heun"}, {}},
      {"DPM2", "KDPM2DiscreteScheduler", {"dpm_2", "k_dpm_2", "KDPM2"}, {}},
      {"DPM2 a",
       "KDPM2AncestralDiscreteScheduler",
       {"dpm_2_ancestral", "k_dpm_2_a", "k_dpm_2_ancestral", "KDPM2 a"},
       {}},
      {"LMS", "LMSDiscreteScheduler", {"k_lms"}, {}},
      {"DDIM", "DDIMScheduler", {}, {}},
      {"DDPM", "DDPMScheduler", {}, {}},
      {"PLMS", "PNDMScheduler", {}, {{"skip_prk_steps", "true"}}},
      {"PNDM", "PNDMScheduler", {}, {}},
      {"UniPC", "UniPCMultistepScheduler", {"uni_pc"}, {}},
      {"UniPC BH2", "UniPCMultistepScheduler", {"uni_pc_bh2"}, {{"solver_type", "\"bh2\""}}},
      {"DEIS", "DEISMultistepScheduler", {}, {}},
      {"LCM", "LCMScheduler", {}, {}},
      {"TCD", "TCDScheduler", {}, {}},
  };
}

// As diffusers' documentation translates them. Those without a use_* key turn the model's own off.
std::vector<ScheduleEntry> schedule_entries() {
  const SchedulerOption trailing = {"timestep_spacing", "\"trailing\""};
  const SchedulerOption leading = {"timestep_spacing", "\"leading\""};
  const SchedulerOption linspace = {"timestep_spacing", "\"linspace\""};
  return {
      {"Automatic", "automatic", {}, {}},
      {"Uniform", "uniform", {"normal"}, {linspace}},
      {"Karras", "karras", {"ka"}, {{"use_karras_sigmas", "true"}}},
      {"Exponential", "exponential", {}, {linspace, {"use_exponential_sigmas", "true"}}},
      {"Beta", "beta", {}, {linspace, {"use_beta_sigmas", "true"}}},
      {"Lu", "lu", {"lu_lambdas"}, {{"use_lu_lambdas", "true"}}},
      {"SGM Uniform", "sgm_uniform", {"trailing"}, {trailing}},
      {"Simple", "simple", {}, {trailing}},
      {"DDIM", "ddim", {"ddim_uniform", "leading"}, {leading}},
  };
}

// Only letters, digits and "+", in lower case.
std::string folded(std::string_view name) {
  std::string result;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '+') result.push_back(static_cast<char>(std::tolower(byte)));
  }
  return result;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row.back();
}

template <class Entry>
bool answers_to(const Entry& entry, std::string_view folded_name) {
  const auto matches = [&](std::string_view alias) { return folded(alias) == folded_name; };
  return matches(entry.title) || std::ranges::any_of(entry.aliases, matches);
}

// "EulerAncestralDiscreteScheduler" is also EulerAncestralDiscrete and EulerAncestral.
std::vector<std::string_view> forms_of_class(std::string_view class_name) {
  std::vector<std::string_view> forms = {class_name};
  for (const std::string_view ending : {"Scheduler", "Discrete"}) {
    if (forms.back().ends_with(ending)) forms.push_back(forms.back().substr(0, forms.back().size() - ending.size()));
  }
  return forms;
}

// Without a schedule; an empty class name where there is none.
ResolvedScheduler resolve_whole_name(std::string_view folded_name) {
  for (const SchedulerEntry& entry : known_schedulers()) {
    if (answers_to(entry, folded_name))
      return {std::string(entry.class_name), entry.options, std::string(entry.title), ""};
  }
  for (const SchedulerClassEntry& one : kClasses) {
    for (const std::string_view form : forms_of_class(one.name)) {
      if (folded(form) == folded_name) return {std::string(one.name), {}, std::string(one.name), ""};
    }
  }
  return {};
}

// "unknown; near: …; known: …"
tl::unexpected<Error> unknown(std::string_view what, std::string_view name,
                              const std::vector<std::string_view>& searched,
                              const std::vector<std::string_view>& listed) {
  const std::string wanted = folded(name);
  const std::size_t most = std::max<std::size_t>(2, wanted.size() / 3);
  std::vector<std::pair<std::size_t, std::string_view>> near;
  for (const std::string_view candidate : searched) {
    const std::size_t distance = edit_distance(wanted, folded(candidate));
    if (distance <= most) near.emplace_back(distance, candidate);
  }
  std::ranges::stable_sort(near, {}, &std::pair<std::size_t, std::string_view>::first);
  std::vector<std::string_view> names;
  for (const auto& [distance, candidate] : near) {
    if (names.size() < 3) names.push_back(candidate);
  }
  const std::string hint = names.empty() ? "" : fmt::format("near: {}; ", fmt::join(names, ", "));
  return fail(ErrorCode::invalid_argument, "{} \"{}\": unknown; {}known: {}", what, name, hint,
              fmt::join(listed, ", "));
}

template <class Entry>
void append_names(std::span<const Entry> entries, std::vector<std::string_view>& searched,
                  std::vector<std::string_view>& listed) {
  for (const Entry& entry : entries) {
    listed.push_back(entry.title);
    searched.push_back(entry.title);
    searched.insert(searched.end(), entry.aliases.begin(), entry.aliases.end());
  }
}

tl::unexpected<Error> unknown_scheduler(std::string_view name) {
  std::vector<std::string_view> searched;
  std::vector<std::string_view> listed;
  append_names(known_schedulers(), searched, listed);
  for (const SchedulerClassEntry& one : kClasses) {
    const std::vector<std::string_view> forms = forms_of_class(one.name);
    listed.push_back(one.name);
    searched.insert(searched.end(), forms.begin(), forms.end());
  }
  return unknown("scheduler", name, searched, listed);
}

}  // namespace

std::span<const SchedulerClassEntry> known_scheduler_classes() { return kClasses; }

std::span<const SchedulerEntry> known_schedulers() {
  static const std::vector<SchedulerEntry> entries = scheduler_entries();
  return entries;
}

std::span<const ScheduleEntry> known_schedules() {
  static const std::vector<ScheduleEntry> entries = schedule_entries();
  return entries;
}

const ScheduleEntry* find_schedule(std::string_view name) {
  const std::string wanted = folded(name);
  for (const ScheduleEntry& entry : known_schedules()) {
    if (answers_to(entry, wanted)) return &entry;
  }
  return nullptr;
}

Result<ResolvedScheduler> resolve_scheduler(std::string_view name) {
  const std::string wanted = folded(name);
  ResolvedScheduler resolved = resolve_whole_name(wanted);
  if (!resolved.class_name.empty()) return resolved;
  // A scheduler and a schedule.
  for (const ScheduleEntry& schedule : known_schedules()) {
    std::vector<std::string_view> endings = {schedule.title};
    endings.insert(endings.end(), schedule.aliases.begin(), schedule.aliases.end());
    for (const std::string_view written : endings) {
      const std::string ending = folded(written);
      if (!wanted.ends_with(ending)) continue;
      resolved = resolve_whole_name(std::string_view(wanted).substr(0, wanted.size() - ending.size()));
      if (resolved.class_name.empty()) continue;
      auto options = resolve_schedule(schedule.name, resolved.class_name);
      if (!options) return tl::unexpected(options.error());
      resolved.options.insert(resolved.options.end(), options->begin(), options->end());
      resolved.schedule = schedule.title;
      return resolved;
    }
  }
  return unknown_scheduler(name);
}

Result<std::vector<SchedulerOption>> resolve_schedule(std::string_view name, std::string_view class_name) {
  const ScheduleEntry* found = find_schedule(name);
  if (found == nullptr) {
    std::vector<std::string_view> searched;
    std::vector<std::string_view> listed;
    append_names(known_schedules(), searched, listed);
    return unknown("schedule", name, searched, listed);
  }
  const auto has = [&](std::string_view key) { return has_option(class_name, key); };
  std::vector<SchedulerOption> options;
  bool lays_out_sigmas = false;
  for (const SchedulerOption& option : found->options) {
    if (has(option.first)) {
      options.push_back(option);
      lays_out_sigmas = lays_out_sigmas || option.second == "true";
    } else if (option.second != "\"linspace\"") {  // which is what a class without a choice does
      return fail(ErrorCode::invalid_argument, "schedule \"{}\": {} cannot be laid out so; it has no {}", name,
                  class_name, option.first);
    }
  }
  if (!lays_out_sigmas && !found->options.empty()) {
    for (const std::string_view key :
         {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"}) {
      if (has(key)) options.emplace_back(key, "false");
    }
  }
  return options;
}

}  // namespace darkroom

#include "worker/train/head_options.h"

namespace fr {
namespace {

MarginType TypeOf(LossType type) {
  switch (type) {
    case LossType::arcface:
      return MarginType::kArcFace;
    case LossType::softmax:
      return MarginType::kSoftmax;
    case LossType::normalized_softmax:
      return MarginType::kNormalizedSoftmax;
    case LossType::sphereface:
      return MarginType::kSphereFace;
    case LossType::cosface:
      return MarginType::kCosFace;
    case LossType::combined:
      return MarginType::kCombined;
    case LossType::adaface:
      return MarginType::kAdaFace;
    case LossType::curricularface:
      return MarginType::kCurricularFace;
    case LossType::magface:
      return MarginType::kMagFace;
    case LossType::triplet:
      break;  // has no rows
  }
  return MarginType::kArcFace;
}

// `loss.margin` is the number that the type's paper calls its margin.
void SetMargin(const LossSpec& loss, MarginOptions* options) {
  if (options->type == MarginType::kCombined) {
    options->m1 = loss.m1();
    options->m2 = loss.m2();
    options->m3 = loss.m3();
  }
  if (!loss.has_margin()) return;
  switch (options->type) {
    case MarginType::kSphereFace:
      options->m1 = loss.margin();
      return;
    case MarginType::kCosFace:
      options->m3 = loss.margin();
      return;
    default:
      options->m2 = loss.margin();
  }
}

MarginOptions Margin(const LossSpec& loss) {
  MarginOptions options = DefaultMargin(TypeOf(loss.type()));
  SetMargin(loss, &options);
  if (loss.has_scale()) options.scale = loss.scale();
  options.easy_margin = loss.easy_margin();
  options.straight_through = loss.margin_gradient() == MarginGradient::straight_through;
  options.bias = loss.bias();
  options.filter_threshold = loss.filter_threshold();
  options.lambda_base = loss.sphereface().lambda_base();
  options.lambda_gamma = loss.sphereface().lambda_gamma();
  options.lambda_power = loss.sphereface().lambda_power();
  options.lambda_min = loss.sphereface().lambda_min();
  options.ada_h = loss.adaface().h();
  options.ada_ema = loss.adaface().ema();
  options.curricular_ema = loss.curricularface().ema();
  options.mag_norm_low = loss.magface().norm_low();
  options.mag_norm_high = loss.magface().norm_high();
  options.mag_margin_low = loss.magface().margin_low();
  options.mag_margin_high = loss.magface().margin_high();
  options.mag_lambda = loss.magface().lambda();
  return options;
}

HeadOptimizer HeadOptimizerOf(OptimizerType type) {
  switch (type) {
    case OptimizerType::sgd:
      return HeadOptimizer::kSgd;
    case OptimizerType::adamw:
      return HeadOptimizer::kAdamW;
    case OptimizerType::lars:
      return HeadOptimizer::kLars;
  }
  return HeadOptimizer::kSgd;
}

void SetOptimizer(const OptimizerSpec& spec, HeadShardOptions* options) {
  options->optimizer = HeadOptimizerOf(spec.type());
  options->momentum = spec.momentum();
  options->nesterov = spec.nesterov();
  options->weight_decay = spec.weight_decay();
  options->beta1 = spec.beta1();
  options->beta2 = spec.beta2();
  options->epsilon = spec.epsilon();
  options->trust_coefficient = spec.trust_coefficient();
}

TripletMining MiningOf(TripletSpec::Mining mining) {
  switch (mining) {
    case TripletSpec::semi_hard:
      return TripletMining::kSemiHard;
    case TripletSpec::hard:
      return TripletMining::kHard;
    case TripletSpec::all:
      return TripletMining::kAll;
  }
  return TripletMining::kSemiHard;
}

}  // namespace

MarginHeadOptions HeadOptions(const JobSpec& spec) {
  MarginHeadOptions options;
  options.margin = Margin(spec.loss());
  options.sample_rate = spec.loss().sample_rate();
  options.mass_tolerance = spec.loss().mass_tolerance();
  options.shard.embedding_size = spec.model().embedding_size();
  options.shard.sub_centers = spec.loss().sub_centers();
  options.shard.bf16_products = spec.loss().precision() == Precision::bf16;
  SetOptimizer(spec.optimizer(), &options.shard);
  options.shard.seed = spec.train().seed();
  return options;
}

TripletHeadOptions TripletOptions(const JobSpec& spec) {
  TripletHeadOptions options;
  options.mining = MiningOf(spec.loss().triplet().mining());
  if (spec.loss().has_margin()) options.margin = spec.loss().margin();
  options.seed = spec.train().seed();
  return options;
}

std::unique_ptr<Head> MakeHead(const JobSpec& spec, IdentityRange range, Communicator& comm) {
  if (spec.loss().type() == LossType::triplet) {
    return std::make_unique<TripletHead>(TripletOptions(spec), comm);
  }
  return std::make_unique<MarginHead>(HeadOptions(spec), range, comm);
}

}  // namespace fr

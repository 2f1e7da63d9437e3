#include "worker/train/head_options.h"

#include <gtest/gtest.h>

#include "worker/comm/mpi_communicator.h"

namespace fr {
namespace {

MarginHeadOptions OptionsOf(LossType type) {
  JobSpec spec;
  spec.mutable_loss()->set_type(type);
  return HeadOptions(spec);
}

// Each type has its paper's numbers where the job says nothing.
TEST(HeadOptions, DefaultsAreThePapers) {
  EXPECT_EQ(OptionsOf(LossType::arcface).margin.m2, 0.5);
  EXPECT_EQ(OptionsOf(LossType::arcface).margin.scale, 64);
  EXPECT_EQ(OptionsOf(LossType::cosface).margin.m3, 0.35);
  EXPECT_EQ(OptionsOf(LossType::cosface).margin.m2, 0);
  EXPECT_EQ(OptionsOf(LossType::sphereface).margin.m1, 4);
  EXPECT_EQ(OptionsOf(LossType::sphereface).margin.lambda_base, 1000);
  EXPECT_EQ(OptionsOf(LossType::combined).margin.m2, 0.3);
  EXPECT_EQ(OptionsOf(LossType::combined).margin.m3, 0.2);
  EXPECT_EQ(OptionsOf(LossType::adaface).margin.m2, 0.4);
  EXPECT_EQ(OptionsOf(LossType::adaface).margin.ada_h, 0.333);
  EXPECT_EQ(OptionsOf(LossType::magface).margin.mag_lambda, 35);
  EXPECT_EQ(OptionsOf(LossType::softmax).margin.scale, 1);
  EXPECT_EQ(OptionsOf(LossType::normalized_softmax).margin.scale, 64);
}

// loss.margin is the number that the type calls its margin.
TEST(HeadOptions, MarginIsTheTypes) {
  JobSpec spec;
  spec.mutable_loss()->set_margin(0.25);
  EXPECT_EQ(HeadOptions(spec).margin.m2, 0.25);
  spec.mutable_loss()->set_type(LossType::cosface);
  EXPECT_EQ(HeadOptions(spec).margin.m3, 0.25);
  EXPECT_EQ(HeadOptions(spec).margin.m2, 0);
  spec.mutable_loss()->set_type(LossType::sphereface);
  EXPECT_EQ(HeadOptions(spec).margin.m1, 0.25);
}

TEST(HeadOptions, TheRestIsCarriedOver) {
  JobSpec spec;
  LossSpec* loss = spec.mutable_loss();
  loss->set_margin_gradient(MarginGradient::straight_through);
  loss->set_filter_threshold(0.4);
  loss->set_sub_centers(3);
  loss->set_sample_rate(0.1);
  loss->set_mass_tolerance(1e-3);
  loss->set_precision(Precision::bf16);
  spec.mutable_train()->set_seed(9);
  OptimizerSpec* optimizer = spec.mutable_optimizer();
  optimizer->set_type(OptimizerType::lars);
  optimizer->set_momentum(0.8);
  optimizer->set_nesterov(true);
  optimizer->set_weight_decay(0.02);
  optimizer->set_beta1(0.7);
  optimizer->set_beta2(0.97);
  optimizer->set_epsilon(1e-5);
  optimizer->set_trust_coefficient(0.01);
  const MarginHeadOptions options = HeadOptions(spec);
  EXPECT_TRUE(options.margin.straight_through);
  EXPECT_EQ(options.margin.filter_threshold, 0.4);
  EXPECT_EQ(options.shard.sub_centers, 3);
  EXPECT_EQ(options.sample_rate, 0.1);
  EXPECT_EQ(options.mass_tolerance, 1e-3);
  EXPECT_TRUE(options.shard.bf16_products);
  EXPECT_EQ(options.shard.seed, 9U);
  EXPECT_EQ(options.shard.optimizer, HeadOptimizer::kLars);
  EXPECT_EQ(options.shard.momentum, 0.8);
  EXPECT_TRUE(options.shard.nesterov);
  EXPECT_EQ(options.shard.weight_decay, 0.02);
  EXPECT_EQ(options.shard.beta1, 0.7);
  EXPECT_EQ(options.shard.beta2, 0.97);
  EXPECT_EQ(options.shard.epsilon, 1e-5);
  EXPECT_EQ(options.shard.trust_coefficient, 0.01);
}

TEST(HeadOptions, TripletsHaveFaceNetsMarginUnlessTheJobSaysOtherwise) {
  JobSpec spec;
  spec.mutable_loss()->set_type(LossType::triplet);
  spec.mutable_train()->set_seed(9);
  EXPECT_EQ(TripletOptions(spec).margin, 0.2);
  EXPECT_EQ(TripletOptions(spec).mining, TripletMining::kSemiHard);
  EXPECT_EQ(TripletOptions(spec).seed, 9U);
  spec.mutable_loss()->set_margin(0.5);
  spec.mutable_loss()->mutable_triplet()->set_mining(TripletSpec::hard);
  EXPECT_EQ(TripletOptions(spec).margin, 0.5);
  EXPECT_EQ(TripletOptions(spec).mining, TripletMining::kHard);
}

// Margins have a row an identity of the rank's range; triplets have none.
TEST(MakeHead, IsOfTheJobsLoss) {
  MpiCommunicator self(MpiCommunicator::Self{});
  JobSpec spec;
  EXPECT_EQ(MakeHead(spec, {3, 7}, self)->range(), (IdentityRange{3, 7}));
  EXPECT_FALSE(MakeHead(spec, {3, 7}, self)->RowTensors().empty());
  spec.mutable_loss()->set_type(LossType::triplet);
  EXPECT_EQ(MakeHead(spec, {3, 7}, self)->range().size(), 0);
  EXPECT_TRUE(MakeHead(spec, {3, 7}, self)->RowTensors().empty());
}

}  // namespace
}  // namespace fr

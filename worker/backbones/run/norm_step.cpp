#include "worker/backbones/run/norm_step.h"

#include <utility>

#include "worker/backbones/run/affine.h"
#include "worker/backbones/run/rows.h"
#include "worker/gpu/gpu.h"

namespace fr {
namespace {

std::vector<int> InputsOf(const Graph& graph, const NormNodes& nodes) {
  std::vector<int> inputs = {graph.node(nodes.norm).inputs[0]};
  if (nodes.residual) inputs.push_back(*nodes.residual);
  return inputs;
}

}  // namespace

NormStep::NormStep(const Graph& graph, const NormNodes& nodes, const NetworkState& state,
                   Communicator* comm)
    : Step(InputsOf(graph, nodes), nodes.output, graph.node(nodes.norm).block),
      comm_(comm),
      epsilon_(graph.node(nodes.norm).epsilon),
      channels_(graph.node(nodes.norm).shape[0]),
      parameters_(state.Of(graph.node(nodes.norm))),
      activation_(nodes.activation ? *ActivationOf(graph.node(*nodes.activation).op)
                                   : Activation::kNone) {
  if (activation_ == Activation::kPrelu) {
    slope_ = state.Of(graph.node(*nodes.activation))[0];
  }
}

const float* NormStep::Slope() const {
  return slope_.defined() ? slope_.const_data_ptr<float>() : nullptr;
}

void NormStep::Forward(Tape& tape, const PassMode& mode) {
  x_ = AsRows(tape.value(inputs()[0]));
  if (!mode.again) TakeStatistics(!mode.trial);
  if (mode.again && mode.result_unused) return;
  at::Tensor residual;
  if (inputs().size() > 1) residual = AsRows(tape.value(inputs()[1]));
  at::Tensor y = at::empty_like(x_);
  NormForward work;
  work.bf16 = Bf16();
  work.activation = activation_;
  work.channels = channels_;
  work.x = x_.const_data_ptr();
  work.residual = residual.defined() ? residual.const_data_ptr() : nullptr;
  work.y = y.mutable_data_ptr();
  work.scale = vectors().scale;
  work.offset = vectors().offset;
  work.slope = Slope();
  NormForwardPass(work);
  tape.value(output()) = y;
}

void NormStep::Backward(Tape& tape) {
  at::Tensor dy = AsRows(tape.TakeGradient(output()));
  NormBackward work = BackwardWork(dy);
  TakeGradients(&work);
  if (NeedsGradient(inputs()[0])) InputGradient(tape, work);
  if (inputs().size() > 1) tape.AddGradient(inputs()[1], std::move(dy));
  x_.reset();
}

NormBackward NormStep::BackwardWork(const at::Tensor& dy) const {
  NormBackward work;
  work.bf16 = Bf16();
  work.activation = activation_;
  work.channels = channels_;
  work.x = x_.const_data_ptr();
  work.dy = dy.const_data_ptr();
  work.scale = vectors().scale;
  work.offset = vectors().offset;
  work.slope = Slope();
  work.mean = vectors().mean;
  return work;
}

void NormStep::InputGradient(Tape& tape, NormBackward work) {
  // What others gave x so far is summed on the way.
  at::Tensor other = tape.TakeGradient(inputs()[0]);
  at::Tensor dx;
  if (other.defined() && MayWriteInto(other)) {
    dx = other;
  } else {
    if (other.defined()) other = AsRows(other.to(x_.scalar_type()));
    dx = at::empty_like(x_);
  }
  work.add = other.defined() ? other.const_data_ptr() : nullptr;
  work.dx = dx.mutable_data_ptr();
  InputGradientPass(work);
  other.reset();
  tape.AddGradient(inputs()[0], std::move(dx));
}

bool NormStep::MayWriteInto(const at::Tensor& gradient) const {
  return Tape::IsOwn(gradient) && gradient.is_contiguous(x_.suggest_memory_format()) &&
         gradient.scalar_type() == x_.scalar_type();
}

std::unique_ptr<Step> MakeNormStep(const Graph& graph, const NormNodes& nodes,
                                   const NetworkState& state, Communicator* comm) {
  return ProcessGpu() == nullptr ? MakeCpuNormStep(graph, nodes, state, comm)
                                 : MakeGpuNormStep(graph, nodes, state, comm);
}

}  // namespace fr

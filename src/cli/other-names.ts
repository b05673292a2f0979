/**
 * @file What other programs call the options: transformers, TRL, vLLM, common command lines. Names are without dashes and
 * underscores, in small letters; the PPO options' names in TRL are in algorithms/options/trl-names.ts.
 */

/** The first of these options that a command has; either of them; or a sentence where there is no such option. */
type Meaning = readonly string[] | { either: readonly string[] } | string;

const LOGGING =
  "there is nothing to switch on: the run directory holds metrics.jsonl, samples.jsonl and TensorBoard events in tb/";
const CPU = "--device webgpu computes on a GPU; the CPU does without it, and --threads says on how many threads";
const NUMBERS =
  "weights are fp32; where there is --rollout-precision or --precision, int8 samples from a quantised copy";
const EVALUATION = "held-out prompts are answered before and after training; --eval-prompts names a file of them";
const WORKERS =
  "workers on other machines answer the prompts of ppo, grpo and rloo; --threads says on how many threads this one computes";
const KEPT = "nothing is overwritten: choose another --out, or go on with --resume";

const spellings: readonly (readonly [names: string, meaning: Meaning])[] = [
  [
    "o output outputdir outputpath outdir savedir savepath saveto rundir logdir runname expname experimentname dest",
    ["out"],
  ],
  ["m modelname modelnameorpath modelpath modelid modeldir basemodel pretrained policy ckpt checkpoint", ["model"]],
  ["pretrainedmodelnameorpath sftmodelpath", ["model"]],
  ["text input query p", ["prompt", "prompts", "text", "data"]],
  ["prompt", ["prompts", "text"]],
  ["d data dataset querydataset datasetname datasetpath datapath datafile trainfile trainfiles", ["prompts", "data"]],
  ["inputs inputfile promptfile promptsfile trainprompts corpus file", ["prompts", "data"]],
  ["prompts", ["prompt", "text", "data"]],
  ["eval evaldata evaldataset evalfile validationfile testfile heldoutprompts", ["evalPrompts", "heldOut"]],
  ["heldout validprompts testprompts validation", ["evalPrompts", "heldOut"]],
  ["column textcolumn textfield datasettextfield field promptfield promptkey inputkey", ["promptColumn", "column"]],
  ["columnname querycolumn promptcolumn", ["promptColumn", "column"]],
  ["r rewardmodel rewardmodelpath rewardfn rewardfunc rewardfuncs rewardfunction scorer", ["reward"]],
  ["epochs numepochs", { either: ["ppoEpochs", "steps"] }],
  ["nepochs ppoepoch updateepochs innerepochs numiterations kepochs", ["ppoEpochs"]],
  ["numtrainepochs maxsteps numsteps nsteps iterations iters niters trainingsteps totalsteps", ["steps"]],
  ["totaltimesteps numupdates updates maxiters", ["steps"]],
  ["maxtokens maxlength maxlen length numtokens maxnewtoken newtokens genlen ntokens", ["maxNewTokens"]],
  ["maxcompletionlength maxresponselength maxcompletiontokens npredict", ["maxNewTokens"]],
  ["mintokens minlength minresponselength", ["minNewTokens"]],
  ["temp t", ["temperature"]],
  ["n numreturnsequences samples numsamples nsamples numgenerations numresponses count", ["num"]],
  ["k", ["topK"]],
  ["nucleus", ["topP"]],
  ["reppenalty repeatpenalty frequencypenalty presencepenalty", ["repetitionPenalty"]],
  ["stopsequence stopsequences stopstring stopstrings stopword stopwords eostoken", ["stop"]],
  ["lr actorlr actorlearningrate stepsize initlr", ["learningRate"]],
  ["bs b trainbatchsize globalbatchsize totalbatchsize", ["batchSize"]],
  ["pdtbs microbs", ["microBatchSize"]],
  ["kl beta klcoeff klcoefficient klpenaltycoef klpenaltycoefficient initklcoeff klbeta klweight", ["klCoef"]],
  ["initialklcoef initialklcoeff klctlcoef", ["klCoef"]],
  ["adaptivekl klctl klctrl adaptiveklctrl", ["klController"]],
  ["maxkl desiredkl", { either: ["klTarget", "targetKl"] }],
  ["vcoef valuecoef valuecoefficient valuelosscoef valuelosscoefficient criticcoef vfcoeff", ["vfCoef"]],
  ["clip clipeps clipepsilon epsclip epsilon clipratio cliprangeratio", ["clipRange"]],
  ["valueclip vfclip cliprangevf clipvalue vfcliprange", ["clipRangeValue"]],
  ["entcoef entropycoeff entropycoefficient entropybeta entropybonus", ["entropyCoef"]],
  ["discount discountfactor", ["gamma"]],
  ["gaelambda tdlambda gaelam", ["lambda"]],
  ["gradclip gradnorm clipgrad clipgradnorm gradientclipping gradientclipval maxgradientnorm", ["maxGradNorm"]],
  ["wd", ["weightDecay"]],
  ["lorarank lorar rank peft usepeft uselora qlora", ["lora"]],
  ["loadin8bit loadineightbit quantizebase baseint8 int8base qloraprecision", ["basePrecision"]],
  ["loramodules loratarget loratargetmodules targetmodules", ["loraTargets"]],
  ["adaptername adapterpath adapternameorpath loraadapter lorapath loraweights peftmodel peftpath", ["adapter"]],
  ["warmup numwarmupsteps warmupratio", ["warmupSteps"]],
  ["scheduler lrscheduler lrschedule lrdecay", ["schedule"]],
  ["savesteps savefreq saveinterval savestrategy checkpointevery checkpointsteps saveeverysteps", ["saveEvery"]],
  ["savetotallimit keeplast maxcheckpoints", ["keepCheckpoints"]],
  ["loadbestmodelatend savebest", ["keepBest"]],
  ["randomseed randomstate rngseed s", ["seed"]],
  ["resumefromcheckpoint resumefrom continue restart loadcheckpoint", ["resume"]],
  ["c cfg configfile configpath args", ["config"]],
  ["j jobs cores numthreads nthreads nproc numproc numworkers ncpu cpus", ["threads"]],
  ["workers", WORKERS],
  ["q silent disabletqdm noprogress noprogressbar", ["quiet"]],
  ["format outputformat jsonl jsonoutput", ["json"]],
  ["v verbose loglevel traceback", ["debug"]],
  ["reportto wandb wandbproject tensorboard logwith loggingdir trackerprojectname mlflow", LOGGING],
  ["loggingsteps logfreq loginterval logevery", "every step is logged"],
  ["evalsteps evalstrategy evaluationstrategy evalfreq doeval", EVALUATION],
  ["devicemap usedevice backend executionprovider gpu gpus cuda cpu usecpu nocuda usemps", CPU],
  ["dtype torchdtype fp16 bf16 fp32 precision quantization quantize loadin8bit int8", NUMBERS],
  ["force overwrite overwriteoutputdir f yes y", KEPT],
  ["refmodel referencemodel refmodelpath", "the reference is the model as it is when training starts"],
];

const byName = new Map(
  spellings.flatMap(([names, meaning]) => names.split(" ").map((name) => [name, meaning] as const)),
);

/** A name without what programs differ in. */
export const plainName = (name: string): string => name.replace(/[-_.\s]/g, "").toLowerCase();

/** What a name means here: options by name, or a sentence; undefined: unknown. */
export const otherName = (name: string): Meaning | undefined => byName.get(plainName(name));

"""The fields of every recipe, each explained where it is born; variants state only what they change."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The paper's settings (section 4.1, Eq. 5), without a dataset."""
    config = ConfigDict()
    config.seed = 0  # one seed gives weights, batches, masks, dropout and noisy labels

    config.model = ConfigDict()  # `name`, and what that generator is made with: each has its own fields
    config.model.name = "dpconv"
    config.model.variant = "paper"  # "paper" (Fig. 3), "released" (the graph of the authors' published weights) or
    # "prefilled" (not of the paper: what `paper` adds to a fill of the holes with the colours around them)
    config.model.width = 1.0  # multiplies every channel count; 1.0 is 3.3 M parameters
    config.model.dilations = (2, 4, 8, 2)  # of d1-d4; (1, 2, 3, 1) where the input is 64 pixels wide
    config.model.norm = "instance"  # or "none", which is not of the paper
    config.model.dropout = 0.0  # after u1-u3; the paper "tried" it and gives no rate

    config.loss = ConfigDict()  # `recipe`, and its fields; a weight of 0 switches a term off
    config.loss.recipe = "kinli2020"  # the paper's; "kinli2020_ssim" adds a term `ssim` to it; "liu2018" and
    # "yu2019" are those of PConv and GConv
    config.loss.pixel = 10.0  # Eq. (5), all four weights
    config.loss.hole = 1.0  # of the hole's part of `pixel`, Eq. (6)
    config.loss.style = 120.0  # 0 switches VGG-16 off
    config.loss.adversarial = 1e-3  # 0 switches the discriminator off
    config.loss.tv = 1e-4
    config.loss.real_target = (0.7, 1.2)  # label smoothing of the discriminator, uniform per image
    config.loss.fake_target = (0.0, 0.3)
    config.loss.flip_target = 0.1  # probability of a flipped label

    config.vgg = ConfigDict()  # of the loss terms made of VGG-16's features
    config.vgg.weights = ""  # .npz, .safetensors, .pth or .h5 of VGG-16; needed where the loss has such a term
    config.vgg.start = 0  # steps before those terms count: without VGG-16 a step is several times faster

    config.optim = ConfigDict()
    config.optim.generator_lr = 2e-4
    config.optim.discriminator_lr = 1e-4
    config.optim.b1 = 0.5
    config.optim.b2 = 0.9
    config.optim.schedule = "constant"  # "constant", "exponential" (0.9 an epoch) or "cosine" (0 at train.steps)
    config.optim.warmup_steps = 0  # linear, times the schedule
    config.optim.clip_norm = 0.0  # global norm of the generator's gradient; 0 is off
    config.optim.ema = 0.0  # decay of the averaged generator used by evaluation; 0 is off
    config.optim.finetune = 0.0  # the last share of the steps: the encoder's BatchNorm is frozen, and the generator's
    config.optim.finetune_lr = 5e-5  # rate is this one (Liu et al. 2018)

    config.data = ConfigDict()
    config.data.name = "synthetic_garments"  # or "DATASET/CONFIG", as in "deepfashion2/originals"
    config.data.dir = ""  # image_folder: the folder
    config.data.manual_dir = ""  # builders of downloaded datasets: where their files lie
    config.data.data_dir = ""  # where built datasets are kept; "" is TFDS's default, ~/tensorflow_datasets
    config.data.size = 256  # side of the square the network sees
    config.data.crop = "resize"  # "resize" whole; "square", the largest one, random (train) or central (evaluation);
    # or "zoom": squares of random size too, half of that one to all of it (train), or the central one (evaluation)
    config.data.flip = True  # horizontal, the paper's only augmentation
    config.data.max_pixels = 64_000_000  # larger images count as bad, before they are decoded
    config.data.threads = 4  # decoding threads of each process; 0 makes each batch when it is asked for
    config.data.workers = 0  # decoding processes with so many threads each, where threads do not keep up

    config.mask = ConfigDict()
    config.mask.preset = "mixed"  # "qd_imd", "thin", "medium", "thick", "boxes", "blobs", "mixed", "quickdraw", "files"
    config.mask.dir = ""  # files: a folder or archive of mask images; quickdraw: an .ndjson file or a folder of them
    config.mask.set = ""  # files: "qd_imd" or "nvidia_irregular" where they are that published set
    config.mask.hole = ""  # files: "black" or "white", the colour of a hole, where no set says it
    config.mask.coverage = 0.05  # least share of the clothing that a hole covers, where the region is known

    config.train = ConfigDict()
    config.train.init = ""  # a weight file to begin with, "" draws from the seed
    config.train.steps = 120_000
    config.train.batch_size = 64  # global, over all devices
    config.train.dtype = "float32"  # of compute; parameters, Gram matrices, mask sums and losses stay float32
    config.train.devices = 0  # 0 uses all
    config.train.log_every = 50
    config.train.image_every = 1000
    config.train.eval_every = 5000
    config.train.checkpoint_every = 1000
    config.train.keep = 3  # newest checkpoints, besides the best

    config.eval = ConfigDict()
    config.eval.batch_size = 16
    config.eval.examples = 0  # of the validation split; 0 is all
    config.eval.baselines = ("mean",)  # beside the network: names of baselines/classical.py
    config.eval.bootstrap = 1000  # resamples behind each 95 % interval

    return config

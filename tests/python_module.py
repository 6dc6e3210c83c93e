#!/usr/bin/env python3
"""The Python module as its user has it, from an installed wheel: arrays, callbacks, and what it raises.
Usage: python_module.py (in an empty folder)"""
import ast
import inspect
import os
import pathlib
import signal
import threading
import unittest

import numpy as np
import vggflow

SHORT = {
    "updates": 3,
    "batch": 2,
    "time_grid": {"steps": 6},
    "value": {"kind": "none"},
    "eval": {"prompts": 2, "images": 2},
    "checkpoint_every": 1,
    "threads": 1,
}


class ModelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = vggflow.Model("models/nano", time_grid={"steps": 4}, precision="fp32", threads=1)

    def test_images_are_bytes_or_floats_of_the_same_pixels(self):
        height, width = self.model.image_size
        images = self.model.sample(["red heart", "ghost"], seeds=[3, 4])
        self.assertEqual((images.shape, images.dtype), ((2, height, width, 3), np.uint8))
        floats = self.model.sample(["red heart", "ghost"], seeds=[3, 4], floats=True)
        self.assertEqual((floats.shape, floats.dtype), ((2, 3, height, width), np.float32))
        self.assertTrue(((floats >= 0) & (floats <= 1)).all())
        np.testing.assert_array_equal(np.rint(floats * 255).astype(np.uint8).transpose(0, 2, 3, 1), images)
        self.assertGreater(images.std(), 10)

    def test_one_prompt_serves_all_seeds_and_one_seed_all_prompts(self):
        images = self.model.sample("ghost", seeds=range(2))
        np.testing.assert_array_equal(images[1], self.model.sample("ghost", seeds=np.int64(1))[0])
        self.assertEqual(self.model.sample(["ghost", "red heart"]).shape[0], 2)

    def test_refusals_are_one_clear_exception_each(self):
        for call, kind, words in [
            (lambda: self.model.sample(["a", "b"], seeds=[1]), ValueError, "expected a seed per prompt"),
            (lambda: self.model.sample([], seeds=[]), ValueError, "one prompt or more"),
            (lambda: self.model.sample("a", seeds=-1), ValueError, "expected seeds from 0"),
            (lambda: self.model.sample("a", seeds=[0.5]), TypeError, "float"),
            (lambda: self.model.sample([7]), TypeError, "expected a prompt as text, got int"),
            (lambda: self.model.sample("a\0b"), ValueError, "without NUL"),
            (lambda: vggflow.Model("models/none"), vggflow.Error, "models/none"),
            (lambda: vggflow.Model("models/nano", guidence=3), vggflow.Error, "guidance"),
            (lambda: vggflow.Model("models/nano", guidance=1e6), vggflow.Error, "0 to 100"),
            (lambda: vggflow.Model("models/nano", guidance=None), TypeError, "setting guidance, got None"),
            (lambda: vggflow.Model("models/nano", lora="none.safetensors"), vggflow.Error, "none.safetensors"),
        ]:
            with self.assertRaises(kind) as raised:
                call()
            self.assertIn(words, str(raised.exception))

    def test_a_closed_model_is_refused(self):
        with vggflow.Model("models/nano", time_grid={"steps": 1}) as model:
            model.sample("ghost")
        model.close()
        for call in (lambda: model.sample("ghost"), lambda: model.image_size, model.__enter__):
            with self.assertRaisesRegex(ValueError, "this Model is closed"):
                call()

    def test_threads_share_a_model(self):
        alone, results = self.model.sample("ghost", seeds=[5]), [None] * 4

        def draw(i):
            results[i] = self.model.sample("ghost", seeds=[5])

        threads = [threading.Thread(target=draw, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for images in results:
            np.testing.assert_array_equal(images, alone)


class RewardTest(unittest.TestCase):
    def test_bytes_and_floats_get_the_same_score_and_sums_add_up(self):
        images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
        floats = (images / 255.0).transpose(0, 3, 1, 2)
        with vggflow.Reward("emoji-clip") as clip, vggflow.Reward("colorfulness") as color, vggflow.Reward("2*emoji-clip + colorfulness") as both:
            scores = clip.score(images, "ghost")
            self.assertEqual((scores.shape, scores.dtype), ((3,), np.float64))
            np.testing.assert_allclose(clip.score(floats, ["ghost"] * 3), scores, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(both.score(images, "ghost"), 2 * scores + color.score(images, "ghost"), rtol=1e-5)
            # Rows of a larger array, as a caller may hold them.
            np.testing.assert_array_equal(clip.score(np.stack([images, images], 1)[:, 0], "ghost"), scores)

    def test_refusals_are_one_clear_exception_each(self):
        reward, image = vggflow.Reward("colorfulness"), np.zeros((1, 8, 8, 3), np.uint8)
        for call, kind, words in [
            (lambda: reward.score(image[0], "a"), ValueError, "of one image pass image[None]"),
            (lambda: reward.score(np.zeros((1, 8, 8, 3)), "a"), ValueError, "shape (N, 3, height, width), got (1, 8, 8, 3)"),
            (lambda: reward.score(image.astype(np.int64), "a"), TypeError, "uint8 or floats, got int64"),
            (lambda: reward.score(image[:0], "a"), ValueError, "got (0, 8, 8, 3)"),
            (lambda: reward.score(np.full((1, 3, 8, 8), 255.0), "a"), vggflow.Error, "expected floats in [0, 1], got 255 to 255"),
            (lambda: reward.score(np.full((1, 3, 8, 8), np.nan), "a"), vggflow.Error, "expected floats in [0, 1], got NaN"),
            (lambda: reward.score(image, ["a", "b"]), ValueError, "got 2 prompts and 1 images"),
            (lambda: vggflow.Reward("no-such"), vggflow.Error, "no-such"),
            (lambda: vggflow.Reward(3), TypeError, "expected a reward as text, got int"),
        ]:
            with self.assertRaises(kind) as raised:
                call()
            self.assertIn(words, str(raised.exception))
        reward.close()
        with self.assertRaisesRegex(ValueError, "this Reward is closed"):
            reward.score(image, "a")


class AlignTest(unittest.TestCase):
    def test_a_callback_sees_every_update_stops_the_run_and_it_goes_on(self):
        seen = []

        def stop_after_two(update):
            seen.append(update)
            return update.update == 2

        run = vggflow.align("stopped", on_update=stop_after_two, **SHORT)
        self.assertEqual((run.end, run.folder), ("stopped", pathlib.Path("stopped")))
        self.assertEqual([(u.update, u.updates) for u in seen], [(1, 3), (2, 3)])
        self.assertEqual(seen[0].line["reward"]["mean"], seen[0].reward_mean)
        self.assertEqual(seen[0].evaluation["kind"], "eval")
        self.assertGreater(seen[0].seconds, 0)
        run = vggflow.align("stopped", on_update=seen.append, resume=True, **SHORT)
        self.assertEqual((run.end, [u.update for u in seen]), ("finished", [1, 2, 3]))
        self.assertEqual(run.summary["updates"], 3)
        self.assertTrue((run.folder / "report.html").exists())
        self.assertEqual(vggflow.align("stopped", resume=True, **SHORT).end, "finished before")
        with vggflow.Model("models/nano", lora=run.lora, time_grid={"steps": 2}) as aligned:
            self.assertEqual(aligned.sample("ghost").shape[0], 1)

    def test_an_exception_of_the_callback_ends_the_run_and_is_raised(self):
        def fail(update):
            raise LookupError("mine")

        with self.assertRaisesRegex(LookupError, "mine"):
            vggflow.align("failed", on_update=fail, **SHORT)
        self.assertTrue(pathlib.Path("failed/checkpoints/update_000001/COMPLETE").exists())

    def test_a_callback_may_sample(self):
        shapes = []
        with vggflow.Model("models/nano", time_grid={"steps": 2}) as model:
            vggflow.align("sampled", on_update=lambda u: shapes.append(model.sample("ghost").shape) or True, **SHORT)
        self.assertEqual(len(shapes), 1)

    def test_ctrl_c_saves_and_raises_once_the_update_is_done(self):
        with self.assertRaises(KeyboardInterrupt):
            vggflow.align("interrupted", on_update=lambda u: os.kill(os.getpid(), signal.SIGINT), **SHORT)
        self.assertTrue(pathlib.Path("interrupted/checkpoints/update_000001/COMPLETE").exists())
        self.assertIs(signal.getsignal(signal.SIGINT), signal.default_int_handler)
        with self.assertRaises(KeyboardInterrupt):  # Python's own again
            os.kill(os.getpid(), signal.SIGINT)

    def test_refusals_are_one_clear_exception_each(self):
        def start_another(update):
            vggflow.align("inner", **SHORT)

        pathlib.Path("foreign.yaml").write_text("reward: plugin:/no/such.so\n")
        for call, kind, words in [
            (lambda: vggflow.align("a", updates=0), vggflow.Error, "updates"),
            (lambda: vggflow.align("a", page=8675), vggflow.Error, "the live page is the program's"),
            (lambda: vggflow.align("a", config="none.yaml"), vggflow.Error, "none.yaml"),
            (lambda: vggflow.align("a", config="foreign.yaml"), vggflow.Error, "pass trust=plugins"),
            (lambda: vggflow.align("a", model="models/none"), vggflow.Error, "models/none"),
            (lambda: vggflow.align("outer", on_update=start_another, **SHORT), vggflow.Error, "a run is under way in this process"),
        ]:
            with self.assertRaises(kind) as raised:
                call()
            self.assertIn(words, str(raised.exception))
        self.assertFalse(pathlib.Path("a").exists())


class PackageTest(unittest.TestCase):
    def test_the_stubs_name_what_the_module_has(self):
        tree = ast.parse(pathlib.Path(vggflow.__file__).with_suffix(".pyi").read_text())
        stubs = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        self.assertEqual({*stubs, "PROGRAM"}, set(vggflow.__all__))
        for name, node in stubs.items():
            made = getattr(vggflow, name)
            if isinstance(node, ast.FunctionDef) and name not in ("run", "main"):
                self.assertEqual(names_of(node), list(inspect.signature(made).parameters), name)
            for method in [m for m in getattr(node, "body", []) if isinstance(m, ast.FunctionDef) and isinstance(node, ast.ClassDef)]:
                found = inspect.getattr_static(made, method.name)
                if not isinstance(found, property):
                    self.assertEqual(names_of(method), list(inspect.signature(found).parameters), f"{name}.{method.name}")
            self.assertTrue(inspect.getdoc(made), name)

    def test_it_says_which_library_it_is(self):
        self.assertRegex(vggflow.version(), r"^\d+\.\d+\.\d+ \(commit ")


def names_of(function):
    a = function.args
    return [arg.arg for arg in [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]]


if __name__ == "__main__":
    unittest.main()

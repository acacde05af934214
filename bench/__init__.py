"""Benchmarks, each with its peer beside it in one run: ``python -m bench``, ``python -m bench.capture``…"""

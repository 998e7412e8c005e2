"""The images of the built-in algorithms."""

import pytest

from consumer.deployment.images import image_of
from consumer.errors import Misconfigured


def test_images_are_those_that_aws_publishes_for_a_region() -> None:
    # docs.aws.amazon.com/sagemaker/latest/dg-ecr-paths, US East and Europe.
    assert image_of("xgboost", "us-east-1", "1.7-1") == (
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
    )
    assert image_of("forest", "eu-central-1", "3.0-5") == (
        "664544806723.dkr.ecr.eu-central-1.amazonaws.com/randomcutforest:1"
    )


def test_a_partition_has_a_domain_of_its_own() -> None:
    assert image_of("xgboost", "cn-north-1", "3.0-5") == (
        "450853457545.dkr.ecr.cn-north-1.amazonaws.com.cn/sagemaker-xgboost:3.0-5"
    )


def test_a_region_that_is_not_in_the_table_names_the_setting_for_it() -> None:
    with pytest.raises(Misconfigured, match=r"mars-1, expected .*sagemaker\.forest_image"):
        image_of("forest", "mars-1", "3.0-5")

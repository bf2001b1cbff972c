"""What can be true of a persona, as a closed set, for the rules of coherence."""

from enum import StrEnum


class Tag(StrEnum):
    """What is true of a persona, for the rules of coherence."""

    STUDENT = "student"
    SCHOOL = "school"
    WORKS = "works"
    UNEMPLOYED = "unemployed"
    SELF_EMPLOYED = "self_employed"
    RETIRED = "retired"
    PARTNER = "partner"
    MARRIED = "married"
    DIVORCED = "divorced"
    WIDOWED = "widowed"
    SINGLE = "single"
    CHILDREN = "children"
    YOUNG_CHILDREN = "young_children"
    GROWN_CHILDREN = "grown_children"
    CARER = "carer"
    PARENTS_ALIVE = "parents_alive"
    SIBLING = "sibling"
    FRIENDS = "friends"
    FEW_FRIENDS = "few_friends"
    MIGRANT = "migrant"
    LIVES_ALONE = "lives_alone"
    LIVES_WITH_FAMILY = "lives_with_family"
    PET = "pet"
    RELIGIOUS = "religious"
    CHRONIC_ILLNESS = "chronic_illness"
    DRINKS = "drinks"
